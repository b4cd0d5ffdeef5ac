import json
import os
from pathlib import Path

import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog

from resnest_d2.data import read_coco, register_coco
from resnest_d2.data.coco import forget_datasets


def rle(annotation):
    annotation["segmentation"] = {"size": [40, 60], "counts": [100, 50, 2250]}


def test_facts(coco_files):
    facts = read_coco(*coco_files())
    assert facts.classes == ("dog", "cat") and facts.category_ids == (3, 7)
    assert (facts.mask_format, facts.num_annotations) == ("polygon", 2)


@pytest.mark.parametrize(
    "fields", [{"iscrowd": 1}, {"bbox": [5, 5, 0, 9]}, {"bbox": [70, 5, 9, 9]}], ids=str
)
def test_counts_what_can_be_trained_on(fields, coco_files):
    assert read_coco(*coco_files(first("annotations", **fields))).num_annotations == 1


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda d: rle(d["annotations"][1]), "bitmask"),
        (lambda d: d["annotations"][1].pop("segmentation"), ""),
        (lambda d: d["annotations"].clear(), ""),
        (lambda d: d.pop("annotations"), ""),
    ],
)
def test_mask_format(change, expected, coco_files):
    assert read_coco(*coco_files(change)).mask_format == expected


def first(kind, **fields):
    return lambda data: data[kind][0].update(fields)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d.pop("images"), r"no list \['images'\]"),
        (lambda d: d["categories"].clear(), "categories is empty"),
        (lambda d: d["images"][0].pop("height"), "image number 0 .id 1. has no height"),
        (lambda d: d["annotations"][1].pop("bbox"), "annotation number 1 .id 2. has no bbox"),
        (first("annotations", id=2), "annotation id 2 is used twice"),
        (first("images", file_name="gone.png"), "image id 1: there is no gone.png in"),
        (first("annotations", image_id=9), "annotation id 1: its image_id 9"),
        (first("annotations", category_id=9), r"annotation id 1: its category_id 9 .* \[3, 7\]"),
        (first("annotations", bbox=[1, 2, 3]), r"bbox \[1, 2, 3\] is not \[x, y, width, height\]"),
        (first("annotations", bbox=[1, 2, 3, None]), "bbox .* is not"),
    ],
)
def test_errors_name_the_culprit(change, message, coco_files):
    with pytest.raises(ValueError, match=message):
        read_coco(*coco_files(change))


def test_ten_of_many_errors(coco_files):
    def change(data):
        data["annotations"] *= 7

    with pytest.raises(ValueError) as error:
        read_coco(*coco_files(change))
    lines = str(error.value).splitlines()
    assert len(lines) == 12 and lines[-1].strip() == "... and 2 more"


@pytest.mark.parametrize("text", ["", "{", "\x00"])
def test_not_json(text, coco_files, tmp_path):
    _, images = coco_files()
    broken = tmp_path / "broken.json"
    broken.write_text(text)
    with pytest.raises(ValueError, match="broken.json is not JSON"):
        read_coco(str(broken), images)


def test_missing_file_and_folder(coco_files):
    json_file, images = coco_files()
    with pytest.raises(FileNotFoundError, match="annotation file nowhere.json"):
        read_coco("nowhere.json", images)
    with pytest.raises(FileNotFoundError, match="image folder nowhere"):
        read_coco(json_file, "nowhere")


@pytest.mark.parametrize(
    "box",
    [
        *([5, 5, 0, 0], [70, 5, 10, 10], [-20, 5, 10, 10]),
        *([5, 5, 1e-300, 30], [5, 5, 10, 1e-4], [60 - 1e-9, 5, 10, 10], [5, 1e-5 - 10, 10, 10]),
    ],
)
def test_unusable_boxes_are_said(box, coco_files, caplog):
    read_coco(*coco_files(first("annotations", bbox=box)))
    assert "1 annotations have a box that is empty or outside" in caplog.text
    assert "ids 1" in caplog.text


def test_read_again_when_changed(coco_files):
    import os

    json_file, images = coco_files()
    read_coco(json_file, images)
    coco_files(first("categories", name="lynx"))
    os.utime(json_file, ns=(1, 1))
    assert "lynx" in read_coco(json_file, images).classes


def test_registering_is_idempotent(coco_files):
    paths = coco_files()
    register_coco("mine", *paths)
    register_coco("mine", *paths)
    records = DatasetCatalog.get("mine")
    assert [a["category_id"] for r in records for a in r["annotations"]] == [1, 1]
    assert MetadataCatalog.get("mine").thing_classes == ["dog", "cat"]
    with pytest.raises(
        ValueError, match="mine is already registered.*train.json.* give it another"
    ):
        register_coco("mine", *coco_files(name="other"))
    DatasetCatalog.remove("mine")
    MetadataCatalog.remove("mine")


def test_a_registered_file_that_changes_is_read_again(coco_files, tmp_path, monkeypatch):
    json_file, folder = coco_files()
    register_coco("mine", json_file, folder)
    monkeypatch.chdir(tmp_path)
    relative = [os.path.relpath(path) for path in (json_file, folder)]
    assert register_coco("mine", *relative).classes == ("dog", "cat")
    data = json.loads(Path(json_file).read_text())
    data["categories"].append({"id": 99, "name": "zebra"})
    Path(json_file).write_text(json.dumps(data))
    assert register_coco("mine", *relative).classes == ("dog", "cat", "zebra")
    metadata = MetadataCatalog.get("mine")
    assert metadata.thing_classes == ["dog", "cat", "zebra"]
    assert metadata.thing_dataset_id_to_contiguous_id[99] == 2
    forget_datasets(["mine", "coco_2017_val", "no such"])
    assert "mine" not in DatasetCatalog and "coco_2017_val" in DatasetCatalog


def test_images_outside_of_their_folder_are_read_with_a_warning(coco_files, tmp_path, caplog):
    json_file, folder = coco_files()
    data = json.loads(Path(json_file).read_text())
    for image, start in zip(data["images"], ("../other/", f"{folder}/../other/"), strict=False):
        target = Path(folder, "..", "other", image["file_name"])
        target.parent.mkdir(exist_ok=True)
        Path(folder, image["file_name"]).rename(target)
        image["file_name"] = start + image["file_name"]
    Path(json_file).write_text(json.dumps(data))
    read_coco(json_file, folder)
    (told,) = [r.message for r in caplog.records if "are outside of" in r.message]
    first = data["images"][0]["file_name"]
    assert f"2 images are outside of the folder {folder}, such as {first}" in told
