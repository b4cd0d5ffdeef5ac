"""``resnest-d2 import-data``: what it prints, and which command is right for other files."""

import cv2
import numpy as np
import pytest
from formats import varied_labelme, voc, yolo

from resnest_d2.data.entries import dataset_entry


def test_command_splits_or_says_how(tmp_path, resnest_d2):
    pytest.importorskip("imagehash", reason="the extra split is not installed")
    source, coco = varied_labelme(tmp_path / "pets", 10), tmp_path / "coco"
    done = resnest_d2("import-data", "labelme", source, "--output", coco)
    assert done.exit_code == 0, done.stderr
    advice = f"resnest-d2 split {coco}/pets.json {source} --val 0.2 --output FOLDER"
    assert "no validation set" in done.stdout and advice in done.stdout
    done = resnest_d2("import-data", "labelme", source, "--output", coco, "--val", "0.2")
    last = done.stdout.splitlines()[-1]
    assert last.startswith("Next: resnest-d2 train quick_schedules/faster_rcnn")
    assert f"--data {coco}/pets_train.json {source} --val {coco}/pets_val.json" in last


def test_the_table_has_one_row_for_equal_findings(tmp_path, resnest_d2):
    (source,) = yolo(tmp_path / "data")
    lines = "0 .95 .5 .2 .1\n" * 100
    (tmp_path / "data" / "labels" / "train" / "train.txt").write_text(lines)
    done = resnest_d2("import-data", "yolo", source, "--output", tmp_path / "coco")
    rows = [line for line in done.stdout.splitlines() if "box beyond image" in line]
    assert len(rows) == 1 and "annotation id 1, annotation id 2, annotation id 3 ..." in rows[0]
    assert rows[0].split()[5] == "100"


def test_names_the_sets_after_the_source(tmp_path, resnest_d2):
    (source,) = voc(tmp_path / "data")
    for split in ("train", "val"):
        value = np.full((50, 100, 3), len(split), np.uint8)
        cv2.imwrite(str(source / "JPEGImages" / f"{split}.png"), value)
    result = resnest_d2("import-data", "voc", source, "--output", tmp_path / "coco")
    assert result.exit_code == 0, result.output
    assert "data_train.json: 1 images, 2 objects" in result.output
    assert "0 errors, 0 warnings" in result.output
    train, val = (tmp_path / "coco" / f"data_{split}.json" for split in ("train", "val"))
    assert f"--data {train} {source}/JPEGImages --val {val} --output" in result.output
    assert [dataset_entry((path, source))[0] for path in (train, val)] == ["data_train", "data_val"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["SOURCE"], "holds Pascal VOC annotations; to convert them: resnest-d2 import-data voc"),
        (["yolo", "SOURCE"], "resnest-d2 import-data voc SOURCE --output FOLDER"),
        (["voc", "PARENT"], "in its folders; to convert them: resnest-d2 import-data voc SOURCE"),
        (["yolo", "COCO"], "resnest-d2 split COCO IMAGES --output FOLDER"),
    ],
)
def test_a_wrong_kind_is_told_the_right_command(words, message, tmp_path, resnest_d2, coco_files):
    (source,) = voc(tmp_path / "all" / "data")
    places = {"SOURCE": source, "PARENT": tmp_path / "all", "COCO": coco_files()[0]}
    words = [places.get(word, word) for word in words]
    for name, place in places.items():
        message = message.replace(name, str(place))
    done = resnest_d2("import-data", *words, "--output", tmp_path / "out")
    assert done.exit_code == 1 and message in done.stderr
    assert done.stderr.count("\n") == 1 and not (tmp_path / "out").exists()


def test_wrong_usage(tmp_path, resnest_d2):
    for words in (["voc"], ["dogs", "a"], ["voc", "a", "--test", "0.1"]):
        done = resnest_d2("import-data", *words, "--output", tmp_path / "out")
        assert done.exit_code == 2, words
