"""Roboflow's exports keep their fields and lose the category that is only a root."""

import json

import pytest
from formats import images

from resnest_d2.data import read_coco
from resnest_d2.data.convert import import_data

ROOT = {"id": 0, "name": "cells", "supercategory": "none"}
CLASSES = [{"id": i, "name": n, "supercategory": "cells"} for i, n in ((1, "RBC"), (2, "WBC"))]


def write(folder, categories=(ROOT, *CLASSES)):
    for split in ("train", "valid", "test"):
        images(folder / split, a="a.jpg", b="b.jpg")
        entries = [
            {"id": i, "license": 1, "file_name": name, "height": 50, "width": 100}
            for i, name in enumerate(("a.jpg", "b.jpg"))
        ]
        box = {"id": 0, "image_id": 0, "category_id": 2, "bbox": [1, 2, 3.5, 4], "area": 14}
        data = {
            "info": {"year": "2026"},
            "licenses": [{"id": 1, "url": "", "name": "CC"}],
            "categories": list(categories),
            "images": entries,
            "annotations": [{**box, "segmentation": [], "iscrowd": 0}],
        }
        (folder / split / "_annotations.coco.json").write_text(json.dumps(data))
    return str(folder)


def test_splits_and_fields(tmp_path):
    done = import_data("roboflow", [write(tmp_path / "blood")], output=str(tmp_path))
    assert [(f.json_file, f.split, f.image_root) for f in done.files] == [
        (f"{tmp_path}/blood_{split}.json", split, f"{tmp_path}/blood/{folder}")
        for split, folder in (("train", "train"), ("val", "valid"), ("test", "test"))
    ]
    for file in done.files:
        with open(file.json_file) as opened:
            data = json.load(opened)
        assert data["categories"] == CLASSES  # the ids stay: 1 and 2
        assert data["info"] == {"year": "2026"} and data["licenses"][0]["name"] == "CC"
        assert data["images"][1]["license"] == 1
        (annotation,) = data["annotations"]
        assert annotation["category_id"] == 2 and annotation["bbox"] == [1, 2, 3.5, 4]
        assert read_coco(file.json_file, file.image_root).classes == ("RBC", "WBC")


def test_a_category_0_that_is_no_root_stays(tmp_path):
    cells = [{"id": 0, "name": "cell", "supercategory": "none"}, *CLASSES]
    done = import_data("roboflow", [write(tmp_path / "blood", cells)], output=str(tmp_path))
    with open(done.files[0].json_file) as opened:
        data = json.load(opened)
    assert [(c["id"], c["name"]) for c in data["categories"]] == [
        (1, "cell"),
        (2, "RBC"),
        (3, "WBC"),
    ]
    assert data["annotations"][0]["category_id"] == 3


def test_one_split_and_faults(tmp_path):
    source = tmp_path / "blood"
    write(source)
    (file,) = import_data("roboflow", [str(source / "valid")], output=str(tmp_path)).files
    assert file.json_file == f"{tmp_path}/blood_val.json" and file.split == "val"
    data = json.loads((source / "test" / "_annotations.coco.json").read_text())
    data["annotations"][0]["image_id"] = 7
    (source / "test" / "_annotations.coco.json").write_text(json.dumps(data))
    with pytest.raises(ValueError, match="has image_id 7, not among its images"):
        import_data("roboflow", [str(source)], output=str(tmp_path / "out"))
    (source / "valid" / "_annotations.coco.json").write_text('{"images": []}')
    with pytest.raises(ValueError, match="valid/_annotations.coco.json: it has no list of annot"):
        import_data("roboflow", [str(source)], output=str(tmp_path / "out"))
