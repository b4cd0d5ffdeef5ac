"""Every command in README and docs is run, in small; every key is listed; the site builds.

The commands of all pages run one after the other in one folder, which holds what pages may name:
``data/{train,val,all}.json``, ``data/images/``, ``data/mine.yaml`` (own_data.md's), ``image.png``,
``images/``, ``video.mp4``, the formats of import-data in folders of their names, and
``epoch_12.pth``
(mmdetection's Faster R-CNN). ``output/mine`` is what README's training leaves. Trainings get the
keys of small.py; published weights are written here.
"""

import ast
import importlib
import inspect
import re
import shlex
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import cv2
import formats
import published
import pytest
import small
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog
from PIL import Image
from typer.testing import CliRunner

import resnest_d2
from resnest_d2 import get_backbone, get_cfg
from resnest_d2.checkpoint.origins import converted_file
from resnest_d2.cli.main import app
from resnest_d2.inference.video import VideoWriter
from resnest_d2.model_zoo import config_dir

ROOT = Path(__file__).parents[1]
PAGES = [
    ROOT / "README.md",
    ROOT / "docs" / "index.md",
    *sorted(p for p in (ROOT / "docs").glob("*.md") if p.name != "index.md"),
]
PYPROJECT = (ROOT / "pyproject.toml").read_text()
sys.path.insert(0, str(ROOT))
sys.path.insert(0, str(ROOT / "tools"))


def commands(page: Path) -> list[str]:
    """Lines of the shell blocks; a block without a language is one."""
    blocks = re.findall(r"^```(\w*)\n(.*?)^```", page.read_text(), flags=re.M | re.S)
    code = "\n".join(text for language, text in blocks if language in ("", "bash", "sh"))
    lines = code.replace("\\\n", " ").splitlines()
    return [" ".join(line.split()) for line in lines if line.strip() and line[0] != "#"]


# Option -> package that it needs, and the sentence where that is not installed.
EXTRAS = {
    "--ray": ("ray", "pip install 'resnest-d2[ray]'"),
    "--track": ("trackers", "pip install --no-deps trackers"),
}


def check_make(words):
    phony = re.search(r"^\.PHONY: (.*)", (ROOT / "Makefile").read_text(), flags=re.M)[1].split()
    assert {word for word in words[1:] if "=" not in word} <= set(phony)


def check_pip(words):
    assert words[1] == "install"
    for extra in re.findall(r"\[(.*?)\]", " ".join(words)):
        assert re.search(rf"^{extra} = \[", PYPROJECT, flags=re.M), extra


def check_script(words):
    assert re.search(rf"^{re.escape(words[0])} = ", PYPROJECT, flags=re.M)


def run_resnest_d2(words):
    words = words[1:]
    if words[0] == "train" and "--help" not in words:
        words += ["SOLVER.MAX_ITER", "3"] if "--resume" in words else small.KEYS
    if words[0] == "predict" and "--score-threshold" not in words:
        words += ["--score-threshold", "0"]  # all that the detector of small.KEYS finds
    if words[0] == "app":
        words += ["--help"]  # it would wait for Ctrl-C; its other options are parsed all the same
    done = CliRunner().invoke(app, words, prog_name="resnest-d2")
    for option, (module, install) in EXTRAS.items():
        if option in words and find_spec(module) is None:
            assert install in done.stderr
            return
    assert done.exit_code == 0, done.stderr or repr(done.exception)


def run_train_net(words):
    import train_net

    assert train_net.main([*words[1:], *small.KEYS]) == 0


def run_tool(words):
    done = subprocess.run(
        [sys.executable, str(ROOT / words[0]), *words[1:]], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-2000:]


RUNNERS = {  # by the beginning of a command
    "make ": check_make,
    "pip ": check_pip,
    "resnest-d2-install-detectron2": check_script,
    "resnest-d2 ": run_resnest_d2,
    "./train_net.py ": run_train_net,
    "tools/": run_tool,
}


def run(command: str) -> str:
    """Run a command; what is wrong, or nothing."""
    for start, runner in RUNNERS.items():
        if command.startswith(start):
            try:
                runner(shlex.split(command))
            except (AssertionError, SystemExit, OSError, ValueError) as error:
                return f"{command}\n  {error}"
            finally:
                small.forget_logs()
            return ""
    return f"{command}\n  no test runs such a command: add it to RUNNERS"


@pytest.fixture
def workspace(tmp_path, monkeypatch, weights_cache):
    """The folder that the commands run in."""
    small.write_data(tmp_path / "data")
    text = (ROOT / "docs" / "own_data.md").read_text()
    mine = re.search(r"^```yaml\n(.*?)^```", text, flags=re.M | re.S)[1]
    mine = mine.replace("/path/to/resnest_d2/configs", str(config_dir()))
    (tmp_path / "data" / "mine.yaml").write_text(mine)
    small.merge(tmp_path / "data", ("train", "val"), "all")
    for write in (*formats.WITH_SPLITS, formats.cvat, formats.labelstudio, formats.roboflow):
        write(tmp_path / write.__name__)
    (tmp_path / "images").mkdir()
    for path in (tmp_path / "data" / "images").glob("val_*"):
        shutil.copy(path, tmp_path / "images")
        shutil.copy(path, tmp_path / "image.png")
    video = VideoWriter(tmp_path / "video.mp4", 5)
    for _ in range(4):
        video.add(Image.open(tmp_path / "image.png").convert("RGB"))
    video.close()
    published.save(tmp_path / "epoch_12.pth", "faster_rcnn_s50")

    def weights(source):
        path = tmp_path / f"{Path(source.name).name}.pth"
        name = source.name.removeprefix("resnest://")
        if name.startswith(("timm/", "imagenet/")):
            torch.save({"model": get_backbone(name).state_dict()}, path)
        elif not path.exists():
            published.save(path, name)
        return converted_file(path)

    monkeypatch.setattr("resnest_d2.checkpoint.handlers.local_weights", weights)
    monkeypatch.chdir(tmp_path)
    before = set(DatasetCatalog.list())
    yield tmp_path
    for name in set(DatasetCatalog.list()) - before:  # other tests use the same names
        DatasetCatalog.remove(name)
        MetadataCatalog.remove(name)


def test_every_command_runs(workspace):
    found = [command for page in PAGES for command in commands(page)]
    assert "resnest-d2 eval output/mine" in found and "make demo" in found
    wrong = [message for command in dict.fromkeys(found) if (message := run(command))]
    assert not wrong, "\n".join(wrong)
    assert (workspace / "output" / "mine" / "eval" / "results.json").is_file()


# What of the examples is made small.
SMALLER = {
    '["SOLVER.MAX_ITER", 1000]': repr([*small.KEYS, "OUTPUT_DIR", "output/yaml"]),
    "epochs=12,": f"opts={[*small.KEYS, 'MODEL.DEVICE', 'cpu']},",
}
OWN_TESTS = {"export.md"}  # a program with arguments: tests/deploy/export


def python_blocks(page: Path) -> list[str]:
    """The examples in Python, in order."""
    blocks = re.findall(r"^```python\n(.*?)^```", page.read_text(), flags=re.M | re.S)
    for text, other in SMALLER.items():
        blocks = [block.replace(text, other) for block in blocks]
    return blocks


@pytest.fixture
def examples(workspace):
    """What the examples of the pages find: a trained run, images and a video."""
    options = {"data": "data/train.json", "val": "data/val.json"}
    resnest_d2.train(small.FASTER, **options, output="output/mine", opts=small.KEYS)
    for name in ("before", "after"):
        shutil.copytree("output/mine", f"output/{name}")
    image = cv2.imread("image.png")
    for name in ("street.jpg", "aerial.jpg"):
        cv2.imwrite(name, image)
    frames = cv2.VideoWriter("video.mp4", cv2.VideoWriter_fourcc(*"mp4v"), 5, image.shape[1::-1])
    for _ in range(3):
        frames.write(image)
    frames.release()
    (workspace / "configs").symlink_to(config_dir())
    model = resnest_d2.Run("output/mine").predictor(device="cpu", backend="plain").model
    return {"image": image, "model": model}


def test_every_example_in_python_runs(examples):
    pages = [page for page in PAGES if page.name not in OWN_TESTS and python_blocks(page)]
    assert len(pages) > 8
    for page in pages:
        names = dict(examples)
        for block in python_blocks(page):
            try:
                exec(compile(block, page.name, "exec"), names)
            except Exception as error:
                raise AssertionError(f"{page.name}:\n{block}") from error


def test_an_unknown_command_is_noticed():
    assert "add it to RUNNERS" in run("rm -r data")
    assert "No such command" in run("resnest-d2 trian a.yaml")
    assert "nowhere" in run("pip install '.[nowhere]'")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_within_a_sentence(page):
    known = {command.name for command in app.registered_commands}
    for span in re.findall(r"`([^`\n]+)`", page.read_text()):
        words = span.split()
        if words[0] == "make" and len(words) > 1:
            check_make(words)
        elif words[:2] == ["pip", "install"]:
            check_pip(words)
        elif words[0] == "resnest-d2" and len(words) > 1:
            assert words[1] in known or words[1].startswith("--"), span
        elif words[0].startswith("tools/"):
            assert (ROOT / words[0]).exists(), span


def test_every_key_is_listed():
    from detectron2.config import get_cfg as detectron2_cfg
    from write_config_keys import TARGET, document, rows

    def new(ours, theirs, prefix=""):
        for name, value in ours.items():
            if isinstance(value, dict):
                yield from new(value, theirs.get(name, {}), f"{prefix}{name}.")
            elif name not in theirs:
                yield f"{prefix}{name}", value

    listed = {key: (default, meaning) for key, default, meaning in rows()}
    keys = dict(new(get_cfg(), detectron2_cfg()))
    assert set(listed) == set(keys)
    for key, (default, meaning) in listed.items():
        assert meaning, f"{key} has no comment"
        assert ast.literal_eval(default) == keys[key], key
    assert TARGET.read_text() == document(), "run tools/write_config_keys.py"


def lacking(page: Path, html: str) -> list[str]:
    """What the packages export that a page of the API reference is of, if not in it."""
    found = []
    for package in re.findall(r"^::: (resnest_d2\.\w+(?:\.\w+)?)$", page.read_text(), flags=re.M):
        module = importlib.import_module(package)
        for name in getattr(module, "__all__", ()):
            exported = getattr(module, name)
            if inspect.isroutine(exported) or inspect.isclass(exported):
                headings = {f'id="{package}.{name}"', f'id="{exported.__module__}.{name}"'}
                if not any(heading in html for heading in headings):
                    found.append(f"{package}.{name}")
    return found


def test_the_site_builds_without_warnings(tmp_path):
    pytest.importorskip("mkdocs", reason="needs the extra docs")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    page = (tmp_path / "weights" / "index.html").read_text()
    assert 'href="../MODEL_ZOO/"' in page  # a link out of docs/
    table = (tmp_path / "MODEL_ZOO" / "index.html").read_text()
    assert 'href="../configs/COCO-Detection/faster_rcnn_ResNeSt_50_FPN_1x.yaml"' in table
    for page in (ROOT / "docs" / "api").glob("*.md"):
        html = (tmp_path / "api" / page.stem / "index.html").read_text()
        assert not lacking(page, html), page.name
    fetched = re.compile(r'<(script|link)[^>]+(src|rel="stylesheet" href)="http')
    assert not [p for p in tmp_path.rglob("*.html") if fetched.search(p.read_text())]
