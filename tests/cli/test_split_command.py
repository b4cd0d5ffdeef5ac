"""``resnest-d2 split``: what it prints, and options that contradict each other."""

import json
import shlex

import pytest
import small


@pytest.fixture
def data(tmp_path):
    small.write_data(tmp_path / "data")
    return tmp_path / "data"


def test_prints_a_table_and_the_training(data, tmp_path, resnest_d2):
    pytest.importorskip("imagehash", reason="the extra split is not installed")
    out = tmp_path / "out"
    done = resnest_d2(
        "split", data / "train.json", data / "images", "--val", "0.25", "--output", out
    )
    assert done.exit_code == 0, done.stderr
    assert "all objects" in done.stdout
    last = shlex.split(done.stdout.splitlines()[-1])
    assert last[:3] == ["Next:", "resnest-d2", "train"] and "mask_rcnn" in last[3]
    expected = ["--data", f"{out}/train.json", f"{data}/images", "--val", f"{out}/val.json"]
    assert last[4:] == [*expected, "--output", "output/mine"]
    sizes = [len(json.loads((out / f"{n}.json").read_text())["images"]) for n in ("train", "val")]
    assert sizes == [3, 1]


def test_the_training_of_folds_is_that_of_the_first(data, tmp_path, resnest_d2):
    words = ["split", data / "train.json", data / "images", "--folds", "2", "--output", tmp_path]
    done = resnest_d2(*words, "--ignore-duplicates")
    assert done.exit_code == 0, done.stderr
    assert f"--val {tmp_path}/fold_1/val.json" in done.stdout.splitlines()[-1]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--val", "0.2", "--folds", "3"], "--folds and --val are both given"),
        (["--folds", "0"], "--folds is 0; give at least 2"),
        (["--ignore-duplicates", "--max-distance", "9"], "--ignore-duplicates and --max-distance"),
    ],
)
def test_contradictions(words, message, data, tmp_path, resnest_d2):
    files = [data / "train.json", data / "images"]
    done = resnest_d2("split", *files, "--output", tmp_path / "out", *words)
    assert done.exit_code == 1 and message in done.stderr and not (tmp_path / "out").exists()


def test_other_formats_are_told_what_to_do(tmp_path, resnest_d2):
    from formats import voc

    (source,) = voc(tmp_path / "voc")
    done = resnest_d2("split", source, source, "--output", tmp_path / "out")
    assert done.exit_code == 1 and "resnest-d2 import-data voc" in done.stderr
