"""How programs end: on a mistake of the user, on a defect, on signals."""

import json
import logging
import pickle
import re
import sys
from pathlib import Path

import pytest
import small
import torch
from PIL import Image
from typer.testing import CliRunner

from resnest_d2 import errors
from resnest_d2.errors import Defect, MissingFileError, UserError, report_defect, run_program
from resnest_d2.files import WriteError

sys.path.insert(0, str(Path(__file__).parents[1]))  # where train_net.py is


def fail(error):
    raise error


@pytest.fixture(autouse=True)
def own_temporary_folder(tmp_path, monkeypatch):
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))


@pytest.mark.parametrize("kind", [UserError, MissingFileError, WriteError])
def test_a_mistake_is_its_sentence(kind, capsys, tmp_path):
    assert run_program(lambda: fail(kind("a.json is gone.")), name="here") == 1
    assert capsys.readouterr().err == "here: a.json is gone.\n"
    assert list((tmp_path / "temporary").iterdir()) == []
    assert run_program(lambda: fail(kind("so")), name="here", debug=True) == 1
    assert "Traceback" in capsys.readouterr().err


@pytest.mark.parametrize("kind", [ValueError, OSError, ImportError, RuntimeError, KeyError])
def test_a_defect_leaves_its_traceback_in_a_file(kind, capsys, tmp_path):
    assert run_program(lambda: fail(kind("so")), name="here") == 1
    shown = capsys.readouterr().err
    (file,) = (tmp_path / "temporary").iterdir()
    line = re.search(r"test_errors.py:(\d+)", shown)[1]
    assert "raise error" in Path(__file__).read_text().splitlines()[int(line) - 1]
    assert shown.startswith(f"here: internal error: {kind.__name__} at ")
    assert str(file) in shown and "Traceback" not in shown and shown.count("\n") == 1
    assert "Traceback" in file.read_text() and "in fail" in file.read_text()


def test_a_signal_and_success_have_their_codes(capsys):
    assert run_program(lambda: None, name="here") == 0
    assert run_program(lambda: fail(KeyboardInterrupt()), name="here") == 130
    with pytest.raises(KeyError):
        run_program(lambda: fail(KeyError()), name="here", passed=(KeyError,))
    assert capsys.readouterr().err == ""


def test_a_defect_of_another_process_is_reported_once(capsys, tmp_path):
    try:
        fail(RuntimeError("so"))
    except RuntimeError as error:
        told = pickle.loads(pickle.dumps(report_defect(error)))
    assert isinstance(told, Defect) and "in fail" in told.traceback
    assert run_program(lambda: fail(told), name="here", debug=True) == 1
    shown = capsys.readouterr().err
    assert shown.count("Traceback") == 1 and shown.endswith(f"here: {told}\n")
    assert len(list((tmp_path / "temporary").iterdir())) == 1


def test_a_long_message_is_cut_to_its_ends():
    assert errors._one_line("first\nmiddle\nlast") == "first ... last."
    assert errors._one_line("") == "no message."
    assert len(errors._one_line("x" * 5000)) < 400


def test_the_place_names_what_of_the_package_led_there():
    from resnest_d2.layers import SplitAttentionConv2d

    layer = SplitAttentionConv2d(8, 8)
    try:
        layer(torch.zeros(1, 9, 4, 4))
    except RuntimeError as error:
        place = errors._place(error)
    assert re.match(r"\S+:\d+ \(from resnest_d2/layers/split_attention.py:\d+\)$", place)


@pytest.fixture
def planted(tmp_path, monkeypatch):
    """A folder with data and a run; a RuntimeError inside torch at every convolution."""
    import resnest_d2.engine  # noqa: F401

    image = {"id": 1, "file_name": "a.png", "height": 40, "width": 60}
    box = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 1, 30, 30], "area": 900}
    data = {
        "images": [image],
        "annotations": [{**box, "iscrowd": 0}],
        "categories": [{"id": 1, "name": "cat"}],
    }
    (tmp_path / "train.json").write_text(json.dumps(data))
    Image.new("RGB", (60, 40)).save(tmp_path / "a.png")
    monkeypatch.chdir(tmp_path)
    small.forget_logs()  # of tests before this one
    for module in ("detectron2.engine.defaults", "resnest_d2.engine.setup"):
        monkeypatch.setattr(sys.modules[module], "collect_env_info", lambda: "")

    def planted(*args, **kwargs):
        raise RuntimeError("a planted defect\nof two lines")

    yield lambda: monkeypatch.setattr(torch.nn.functional, "conv2d", planted)
    small.forget_logs()


def data_keys(name):
    entry = f"[['{name}', 'train.json', '{Path.cwd()}']]"
    return ["DATASETS.COCO", entry, "DATASETS.TRAIN", f"('{name}',)", "DATASETS.TEST", "()"]


def assert_reported(err, out, log):
    (sentence,) = [line for line in err.splitlines() if "internal error" in line]
    assert "RuntimeError at " in sentence and "a planted defect ... of two lines." in sentence
    assert re.search(r"\(from resnest_d2/\S+\.py:\d+\)|test_errors\.py:\d+", sentence)
    assert str(log) in sentence
    text = log.read_text()
    assert "Traceback" in text and "in planted" in text and "planted defect" in text
    assert "Traceback" not in out


def test_a_defect_in_train_net(planted, capsys, tmp_path):
    import train_net

    planted()
    words = ["--config-file", small.FASTER, *small.KEYS, *data_keys("defect_a"), "OUTPUT_DIR", "a"]
    assert train_net.main(words) == 1
    shown = capsys.readouterr()
    assert "Traceback" not in shown.err
    assert_reported(shown.err, shown.out, Path("a/log.txt"))
    assert train_net.main(["--debug", *words]) == 1
    assert "in planted" in capsys.readouterr().err


def test_a_defect_in_the_train_command(planted, tmp_path):
    from resnest_d2.cli.main import app

    planted()
    data = ["--data", "train.json", "."]
    words = ["train", small.FASTER, *data, "--output", "b", *small.KEYS]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 1 and "Traceback" not in done.stderr
    assert_reported(done.stderr, done.stdout, Path("b/log.txt"))
    for debug in (["--debug", *words], [words[0], "--debug", *words[1:]]):
        assert "in planted" in CliRunner().invoke(app, debug).stderr


def test_a_defect_in_the_predict_command(planted, tmp_path):
    from detectron2.modeling import build_model

    from resnest_d2 import load_config, register_datasets
    from resnest_d2.cli.main import app

    cfg = load_config(small.FASTER, [*small.KEYS, "MODEL.DEVICE", "cpu"])
    register_datasets(cfg)
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.yaml").write_text(cfg.dump())
    torch.save({"model": build_model(cfg).state_dict()}, tmp_path / "run" / "model_final.pth")
    planted()
    logging.getLogger("resnest_d2").handlers.clear()
    words = ["predict", "run", "a.png", "--backend", "plain", "--device", "cpu"]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 1 and "Traceback" not in done.stderr
    (log,) = (tmp_path / "temporary").iterdir()
    assert_reported(done.stderr, done.stdout, log)
    assert "in planted" in CliRunner().invoke(app, [*words, "--debug"]).stderr
