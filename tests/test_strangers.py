"""Files of strangers: no way from a config, a run's folder, data or weights to their code."""

import logging
import os
import pickle
import re
from pathlib import Path

import pytest
import small
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog

from resnest_d2.checkpoint import find_weights
from resnest_d2.cli.common import say
from resnest_d2.config import check_config, check_unsafe_keys, load_config
from resnest_d2.data.convert.faults import Faults
from resnest_d2.engine import logs
from resnest_d2.engine.guards import load_training_images
from resnest_d2.engine.loading import build_evaluation_loader
from resnest_d2.errors import UserError, run_program
from resnest_d2.model_zoo import get_lazy_config
from resnest_d2.report.gather import Run, datasets_of

ROOT = Path(__file__).parents[1]


class Evil:
    def __reduce__(self):
        return (os.mkdir, ("evil_was_here",))


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The current folder, in which no code of a stranger may run."""
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    assert not os.path.exists("evil_was_here")


READERS = {
    "check_config": check_config,
    "before a prediction": lambda cfg: check_config(cfg, predicting=True),
    "check_unsafe_keys": check_unsafe_keys,
    "training images": load_training_images,
    "evaluation images": lambda cfg: build_evaluation_loader(cfg, "one_image"),
}


@pytest.mark.parametrize("reader", READERS)
def test_proposals_are_never_unpickled(reader, folder, rcnn_cfg):
    with open("proposals.pkl", "wb") as file:
        pickle.dump(Evil(), file)
    DatasetCatalog.register("one_image", lambda: [{"file_name": "a.png", "annotations": [1]}])
    cfg, data = rcnn_cfg, rcnn_cfg.DATASETS
    cfg.MODEL.LOAD_PROPOSALS, data.TRAIN, data.TEST = True, ("one_image",), ("one_image",)
    data.PROPOSAL_FILES_TRAIN = data.PROPOSAL_FILES_TEST = ("proposals.pkl",)
    try:
        with pytest.raises(UserError, match="MODEL.LOAD_PROPOSALS is True: .* any code; set it"):
            READERS[reader](cfg)
    finally:
        DatasetCatalog.remove("one_image")
        MetadataCatalog.pop("one_image", None)


@pytest.mark.parametrize("name", ["a.yaml", "a.yml", "a.pkl"])
def test_lazy_configs_are_python_alone(name, folder):
    (folder / name).write_text("!!python/object/apply:os.mkdir [evil_was_here]")
    with pytest.raises(UserError, match=f"{name} is no Python file.*can run code"):
        get_lazy_config(name)


CONFIGS = {
    "a tag": ("!!python/object/apply:os.mkdir [evil_was_here]", "could not determine a constr"),
    "Python": ("DATALOADER: {NUM_WORKERS: \"__import__('os').mkdir('evil_was_here')\"}", "must be"),
    "a base at an address": ("_BASE_: http://127.0.0.1:9/a.yaml", "is the address 'http://127"),
    "a base of another kind": ("_BASE_: detectron2://a.yaml", "is the address 'detectron2://"),
    "a base in Python": ("_BASE_: b.py", "is a Python config"),
    "a first version": ("VERSION: 1\nA: !!python/name:os.system", "could not determine a constr"),
    "a class": ('DATASETS: {CLASSES: ["a\\nresnest-d2: done"]}', "control characters in 'a.nres"),
    "a data set": ('DATASETS: {COCO: [["\\e[2J", b.json, c]]}', "control characters in '.x1b.2J'"),
    "a key": ('"\\u202eA": 3', "control characters in '.u202eA'"),
}


@pytest.mark.parametrize("kind", CONFIGS)
def test_configs(kind, folder):
    (folder / "b.py").write_text("import os; os.mkdir('evil_was_here')")
    (folder / "a.yaml").write_text(CONFIGS[kind][0])
    with pytest.raises(UserError, match=CONFIGS[kind][1]) as error:
        load_config("a.yaml")
    assert str(error.value).isprintable()


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ("{COCO: [[a, 'http://127.0.0.1:9/a.json', b]]}", "contains .*http.* of files here"),
        ("{COCO: [[a, a.json, 's3://b']]}", "of files here"),
        ("{COCO: [3]}", "contains 3; each entry"),
        ("{COCO: [[a]]}", "contains .'a'.; each entry"),
        ("3", "holds no keys"),
    ],
)
def test_nothing_is_downloaded_for_a_report(config, words, folder):
    (folder / "config.yaml").write_text(f"DATASETS: {config}")
    with pytest.raises(UserError, match=words):
        datasets_of(Run(str(folder), {"a": {}}, [], "DATASETS"))


STEERING = "a\x1b[2J\x9b31m\r\x07\u202eb\u2028\ud800"
ESCAPED = r"a\x1b[2J\x9b31m\r\x07\u202eb\u2028\ud800"


def fail():
    raise UserError(STEERING)


def fault():
    faults = Faults()
    faults.add(f"{STEERING}\nb.xml", "it is none")
    faults.finish()


PRINTERS = {
    "an error": lambda: run_program(fail, name="a"),
    "its traceback": lambda: run_program(fail, name="a", debug=True),
    "a fault": lambda: run_program(fault, name="a"),
    "a line": lambda: say(STEERING),
}


@pytest.mark.parametrize("printer", PRINTERS)
def test_names_reach_the_terminal_escaped(printer, capsys):
    PRINTERS[printer]()
    shown = "".join(capsys.readouterr())
    assert ESCAPED in shown
    assert not set(STEERING) & set(shown) - {"a", "b", "[", "2", "J", "3", "1", "m"}
    assert r"\nb.xml" in shown or printer != "a fault"


@pytest.mark.parametrize("name", ["resnest_d2.data", "detectron2.data"])
def test_names_reach_logs_escaped(name, tmp_path, capsys):
    path = tmp_path / "log.txt"
    small.forget_logs()
    logs.begin_logs(str(tmp_path))
    logging.getLogger(name).warning("%s 3%%\n\x1b[32mgreen", STEERING)
    small.forget_logs()
    green = "green" if name.startswith("detectron2") else r"\x1b[32mgreen"  # its own colours go
    assert path.read_text().partition("WARNING: ")[2] == f"{ESCAPED} 3%\n{green}\n"
    shown = capsys.readouterr().err
    assert shown == ("" if name.startswith("detectron2") else f"warning: {ESCAPED} 3%\n{green}\n")


def test_names_of_tensors():
    with pytest.raises(UserError, match=r"a.pth has a tensor named 'x.ny', with control"):
        find_weights({"x\ny": torch.ones(1)}, "a.pth")


def test_the_table_of_ways_names_its_tests():
    """docs/security.md: every row has a test that exists."""
    text = (ROOT / "docs" / "security.md").read_text(encoding="utf-8")
    rows = [line.split("|")[1:-1] for line in text.splitlines() if line.startswith("| ")]
    named = [re.findall(r"`(test_\w+)`", row[-1]) for row in rows if len(row) == 3][1:]
    tests = "".join(p.read_text(encoding="utf-8") for p in (ROOT / "tests").rglob("test_*.py"))
    assert len(named) > 12
    for names in named:
        assert names and all(f"def {name}(" in tests for name in names), names


def test_the_table_of_faults_names_its_tests():
    """docs/reliability.md: every file and test in it exists."""
    text = (ROOT / "docs" / "reliability.md").read_text(encoding="utf-8")
    named = re.findall(r"`(tests/[\w/]+\.py)(?:::(test_\w+))?`", text)
    assert len(named) > 30
    for path, test in named:
        assert f"def {test}" in (ROOT / path).read_text(encoding="utf-8"), f"{path}::{test}"


def test_what_is_installed_is_pinned_and_audited():
    makefile = (ROOT / "Makefile").read_text()
    workflow = (ROOT / ".github" / "workflows" / "test.yml").read_text()
    pins = (ROOT / "constraints.txt").read_text().splitlines()
    pinned = dict(line.split("==") for line in pins if line and not line.startswith("#"))
    assert {"torch", "torchvision", "sahi", "defusedxml", "pillow", "pyyaml"} <= {*pinned}
    assert "detectron2" not in pinned and f"torch=={pinned['torch']}" in makefile
    installs = [line for line in makefile.splitlines() if "pip install" in line]
    assert len(installs) == 3
    assert all("$(PINS)" in line or "--require-hashes" in line for line in installs)
    assert "--hash=sha256:" in (ROOT / "tools" / "no_deps.txt").read_text()
    assert "pip-audit" in workflow and "constraints.txt" in workflow
