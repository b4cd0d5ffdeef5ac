"""The command line as a whole: help, completion, exit codes."""

import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path

import pytest
import typer

from resnest_d2.cli import main as cli
from resnest_d2.errors import MissingFileError, UserError
from resnest_d2.model_zoo import list_configs, list_models

TOOLS = Path(__file__).parents[2] / "tools"
COMMANDS = sorted(command.name for command in cli.app.registered_commands)


def test_commands():
    assert set(COMMANDS) == set(
        "train eval compare predict app check-data show-data split import-data export-data convert "
        "export list doctor".split()
    )


@pytest.mark.parametrize("name", COMMANDS)
def test_help_has_an_example(name, resnest_d2):
    done = resnest_d2(name, "--help")
    assert done.exit_code == 0
    assert f"\n    resnest-d2 {name}" in done.stdout  # on a line of its own
    assert "Raises:" not in done.stdout


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("train COCO-Panoptic", [n for n in list_configs() if n.startswith("COCO-Panoptic")]),
        ("eval mask_rcnn_s", ["mask_rcnn_s50", "mask_rcnn_s101"]),
        ("predict mask_rcnn_s", ["mask_rcnn_s50", "mask_rcnn_s101"]),
        ("export mask_rcnn_s", ["mask_rcnn_s50", "mask_rcnn_s101"]),
        ("convert a b --config quick", [n for n in list_configs() if n.startswith("quick")]),
        ("tra", ["train"]),
    ],
)
def test_tab_completes(words, expected, resnest_d2):
    env = {
        "_RESNEST_D2_COMPLETE": "complete_bash",
        "COMP_WORDS": f"resnest-d2 {words}",
        "COMP_CWORD": str(len(words.split())),
    }
    assert expected and resnest_d2(env=env).stdout.split() == expected


@pytest.mark.parametrize(
    ("error", "code"),
    [(UserError("so"), 1), (MissingFileError("so"), 1), (KeyboardInterrupt(), 130)],
)
def test_exit_codes(error, code, monkeypatch, capsys):
    def fail():
        raise error

    with pytest.raises(typer.Exit) as raised:
        cli._with_exit_codes(fail)()
    assert raised.value.exit_code == code
    assert capsys.readouterr().err == ("resnest-d2: so\n" if code == 1 else "")


def start(*words, **environment):
    """The installed command in a process of its own, which lists its modules when it ends."""
    code = (
        "import atexit, sys, resnest_d2_command; "
        "atexit.register(lambda: print('MODULES', *sys.modules, file=sys.stderr)); "
        "resnest_d2_command.main()"
    )
    environment["PYTHONPATH"] = f"{TOOLS}:{TOOLS.parent}"
    command = [sys.executable, "-c", code, *words]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    return done, set(done.stderr.partition("MODULES")[2].split())


@pytest.mark.parametrize(
    "words", [["--help"], ["--version"], *([name, "--help"] for name in COMMANDS)], ids=" ".join
)
def test_help_imports_nothing_heavy(words):
    done, modules = start(*words)
    assert done.returncode == 0 and "resnest-d2" in done.stdout
    heavy = {"torch", "detectron2", "cv2", "matplotlib", "pycocotools", "numpy", "tabulate"}
    assert "resnest_d2" in modules and not modules & heavy


@pytest.mark.parametrize("words", ["train quick", "predict mask_rcnn_s"])
def test_completion_imports_no_torch(words):
    asked = {"COMP_WORDS": f"resnest-d2 {words}", "COMP_CWORD": "2"}
    done, modules = start(_RESNEST_D2_COMPLETE="complete_bash", **asked)
    assert words.split()[1] in done.stdout and "typer" in modules and "torch" not in modules


def test_a_list_needs_no_torch():
    done, modules = start("list", "configs", "quick")
    assert "quick_schedules/" in done.stdout and "typer" in modules and "torch" not in modules


def test_choices_are_those_of_the_package():
    from resnest_d2.checkpoint.layouts import ALIASES, LAYOUTS
    from resnest_d2.cli import convert, export, export_data, import_data, predict
    from resnest_d2.data.convert import EXPORTS
    from resnest_d2.data.convert import FORMATS as READ
    from resnest_d2.deploy import BACKENDS
    from resnest_d2.deploy.export import FORMATS as WRITTEN

    for choices, table in (
        (convert.Target, (*LAYOUTS, *ALIASES)),
        (export.Format, WRITTEN),
        (import_data.Format, READ),
        (export_data.Format, EXPORTS),
        (predict.Backend, (*BACKENDS, "plain")),
    ):
        assert [choice.value for choice in choices] == list(table)


@pytest.mark.parametrize(
    "words",
    [
        ["train", "mask_rcnn_s50"],
        ["eval", "mask_rcnn_s50"],
        ["predict", "mask_rcnn_s50", "a.jpg"],
        ["export", "mask_rcnn_s50", "--output", "a.onnx"],
        ["convert", "a.pth", "b.pth"],
    ],
    ids=lambda words: words[0],
)
def test_a_command_registers_before_it_computes(words, resnest_d2, monkeypatch):
    def stop():
        raise UserError("registered")

    monkeypatch.setattr(f"resnest_d2.cli.{words[0]}.prepare", stop)
    assert resnest_d2(*words).stderr == "resnest-d2: registered\n"


def test_the_command_leaves_registering_to_them():
    code = (
        "import resnest_d2_command; resnest_d2_command.registers_later = True; "
        "from resnest_d2.cli.common import prepare; import sys; "
        "print('detectron2' in sys.modules); prepare(); "
        "from detectron2.modeling import BACKBONE_REGISTRY as r; "
        "print('build_resnest_backbone' in r)"
    )
    path = {"PYTHONPATH": f"{TOOLS}:{TOOLS.parent}"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=path)
    assert done.stdout.split() == ["False", "True"], done.stderr


def test_wrong_usage_is_2(resnest_d2):
    assert resnest_d2("train").exit_code == 2
    assert resnest_d2("list", "dogs").exit_code == 2
    assert resnest_d2("import-data", "coco", "data", "--output", "a.json").exit_code == 2
    assert resnest_d2("trian").exit_code == 2


def test_a_wrong_name_gets_close_ones(resnest_d2):
    done = resnest_d2("train", "COCO-Detection/faster_rcnn_resnest_50_fpn_1x.yaml")
    assert done.exit_code == 1 and done.stderr.startswith("resnest-d2: There is no config file")
    assert "COCO-Detection/faster_rcnn_ResNeSt_50_FPN_1x.yaml" in done.stderr
    done = resnest_d2("eval", "faster_rcn_s50")
    assert done.exit_code == 1 and "faster_rcnn_s50" in done.stderr


def test_without_detectron2_it_says_what_to_run():
    code = (
        "import importlib.util as u; real = u.find_spec; "
        "u.find_spec = lambda n, *a: None if n == 'detectron2' else real(n, *a); "
        "import resnest_d2_command; resnest_d2_command.main()"
    )
    path = {"PYTHONPATH": f"{TOOLS}:{TOOLS.parent}"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=path)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert done.stderr.startswith("resnest-d2: resnest_d2 needs detectron2")


def test_lists(resnest_d2):
    both = resnest_d2("list").stdout
    assert all(name in both for name in (*list_configs(), *list_models()))
    rows = resnest_d2("list", "models", "mask", "s50").stdout.splitlines()[2:]
    assert [row.split()[0] for row in rows if row] == ["mask_rcnn_s50", "cascade_mask_rcnn_s50"]
    assert rows[0].split()[-3:] == ["42.6", "38.1", "mmdetection"]
    nothing = resnest_d2("list", "configs", "nowhere")
    assert nothing.exit_code == 1 and "nowhere" in nothing.stderr


@pytest.mark.parametrize(
    ("words", "name"),
    [
        ("eval mask_rcnn_s50 --output {0}", "results.json"),
        ("compare {0} {0} --output {0}/both.html", "both.html"),
        ("export mask_rcnn_s50 --format onnx --output {0}/a.onnx", "a.onnx"),
    ],
)
def test_results_are_replaced_only_if_asked(words, name, resnest_d2, tmp_path):
    (tmp_path / name).write_text("mine")
    done = resnest_d2(*words.format(tmp_path).split())
    assert done.exit_code == 1 and f"{name} exists; give another output or ask" in done.stderr
    assert (tmp_path / name).read_text() == "mine"


@pytest.mark.parametrize("name", ["train", "eval"])
def test_joins_the_group_of_a_launcher_before_anything(name, resnest_d2, monkeypatch):
    joined = []
    monkeypatch.setattr("resnest_d2.engine.joined_group", lambda: nullcontext(joined.append(name)))
    done = resnest_d2(name, "nowhere.yaml")
    assert done.exit_code == 1 and "nowhere.yaml" in done.stderr and joined == [name]
