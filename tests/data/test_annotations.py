"""Annotation files: parsed once, packed, given back."""

import gc
import os
from array import array

import pycocotools.mask as mask_util
import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.datasets import load_coco_json
from pycocotools.coco import COCO

from resnest_d2.data import annotations, register_coco
from resnest_d2.data.annotations import load_annotations, release_annotations
from resnest_d2.data.coco import load_images, release_datasets
from resnest_d2.data.coco_api import read_api


@pytest.fixture
def parsed(monkeypatch):
    """How often each file was parsed."""
    counts, read = {}, annotations.read_json

    def counting(path, **kwargs):
        counts[os.path.basename(path)] = counts.get(os.path.basename(path), 0) + 1
        return read(path, **kwargs)

    monkeypatch.setattr(annotations, "read_json", counting)
    return counts


def varied(data):
    first, second = data["annotations"]
    first.update(segmentation=[[1, 2, 3, 4, 5, 6], [1, 2, 3, 4]], iscrowd=0, area=9, ignore=0)
    second["segmentation"] = {"size": [40, 60], "counts": [100, 50, 2250]}
    rle = mask_util.frPyObjects(second["segmentation"], 40, 60)
    rle = {"size": [40, 60], "counts": rle["counts"].decode()}
    others = [
        {"segmentation": [[1, 2, 3, 4]]},  # no polygon: detectron2 leaves out its box too
        {"segmentation": rle, "iscrowd": 1},
        {"keypoints": [1, 2, 2, 30, 5, 0]},
        {},
    ]
    for i, fields in enumerate(others, 3):
        bare = {"id": i, "image_id": 2, "category_id": 3, "bbox": [1.5, 2, 3, 4]}
        data["annotations"].append({**bare, **fields})
    data["images"].reverse()


def test_data_is_as_detectron2_loads_it(coco_files):
    json_file, images = coco_files(varied)
    ours = load_images(json_file, images)
    theirs = load_coco_json(json_file, images, "loaded_by_detectron2")
    MetadataCatalog.remove("loaded_by_detectron2")
    assert isinstance(ours[0]["annotations"][0]["segmentation"][0], array)
    for record in ours:
        for annotation in record["annotations"]:
            mask = annotation.get("segmentation")
            if isinstance(mask, list):
                annotation["segmentation"] = [list(part) for part in mask]
    for annotation in (a for record in ours for a in record["annotations"]):
        if annotation["keypoints"][2::3] == [0, 0]:  # not labelled, for a detector of keypoints
            del annotation["keypoints"]
    kept = ours[1]["annotations"].pop(1)
    assert kept["bbox"] == [1.5, 2, 3, 4] and "segmentation" not in kept
    assert ours == theirs and [len(r["annotations"]) for r in ours] == [1, 4]
    again = load_images(json_file, images)[1]["annotations"][3]
    assert again["keypoints"] == [1.5, 2.5, 2, 30.5, 5.5, 0]  # not moved a second time


def test_scoring_sees_the_file_as_pycocotools_reads_it(coco_files):
    json_file, _ = coco_files(varied)
    ours = read_api(json_file)
    assert ours.dataset == COCO(json_file).dataset
    ours.anns[1]["area"] = -1
    ours.anns[1]["segmentation"][0][0] = -1
    assert read_api(json_file).anns[1]["area"] == 9
    assert read_api(json_file).anns[1]["segmentation"][0][0] == 1


def test_registering_loading_and_scoring_parse_a_file_once(coco_files, parsed):
    register_coco("parsed_once", *coco_files())
    for _ in range(2):
        assert len(DatasetCatalog.get("parsed_once")) == 2
        read_api(MetadataCatalog.get("parsed_once").json_file)
    assert parsed == {"train.json": 1}
    release_datasets(["parsed_once", "never_registered"])
    assert len(DatasetCatalog.get("parsed_once")) == 2 and parsed == {"train.json": 2}
    DatasetCatalog.remove("parsed_once")
    MetadataCatalog.remove("parsed_once")


def test_a_changed_file_is_parsed_again(coco_files, parsed):
    json_file, _ = coco_files()
    first = load_annotations(json_file)
    assert load_annotations(json_file) is first
    os.utime(json_file, ns=(1, 1))
    assert load_annotations(json_file) is not first and parsed == {"train.json": 2}
    release_annotations([json_file, "gone.json"])
    assert os.path.abspath(json_file) not in annotations._kept


def test_what_is_no_polygon_stays_as_it_is(coco_files):
    odd = [[1, "2"], None, [], [10**400, 1], [True, 1.5]]

    json_file, _ = coco_files(lambda d: d["annotations"][0].update(segmentation=odd))
    mask = load_annotations(json_file)["annotations"][0]["segmentation"]
    assert mask[:4] == [[1, "2"], None, array("d"), [10**400, 1]] and list(mask[4]) == [1.0, 1.5]


def test_garbage_is_collected_again_after_a_broken_file(tmp_path):
    (tmp_path / "broken.json").write_text("{")
    with pytest.raises(ValueError):
        load_annotations(str(tmp_path / "broken.json"))
    assert gc.isenabled()
