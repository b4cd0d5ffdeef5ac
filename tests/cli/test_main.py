"""The command line as a whole: help, completion, exit codes."""

import subprocess
import sys
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
        "train eval predict check-data import-data convert export list doctor".split()
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
