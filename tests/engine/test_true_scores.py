"""The truth scores 100, for ids of any kind and any number of objects, by both scorers."""

import json
import logging

import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.structures import BoxMode
from PIL import Image
from truth import as_detections

from resnest_d2 import get_cfg
from resnest_d2.data import register_coco
from resnest_d2.data.categories import match_dataset
from resnest_d2.engine import evaluation, metrics
from resnest_d2.engine.evaluation import build_evaluator

ANNOTATION_IDS = {
    "around zero": lambda i: i - 3,
    "negative": lambda i: -1 - i,
    "text": lambda i: f"a{i}",
    "fractions": lambda i: i / 8,
    "64 bits": lambda i: 2**62 + i,
    "beyond 64 bits": lambda i: 2**80 + i,
}
IMAGE_IDS = {
    "plain": lambda i: i,
    "negative": lambda i: -i,
    "text": lambda i: f"image {i}",
    "text and numbers": lambda i: str(i) if i % 2 else i,
    "64 bits": lambda i: 2**63 - 1 - i,
    "beyond 64 bits": lambda i: 2**80 + i,
}

NOWHERE = {
    "bbox": [195, 95, 4, 4],
    "bbox_mode": BoxMode.XYWH_ABS,
    "segmentation": [[195, 95, 199, 95, 199, 99, 195, 99]],
}


@pytest.fixture
def truth(tmp_path, monkeypatch):
    """A function that makes a file, gives its own objects as detections, and returns AP and all."""

    def score(
        *,
        annotation_id=lambda i: i,
        image_id=lambda i: i,
        objects=3,
        classes=2,
        fast=True,
        detect=True,
        limit=100,
        categories=({"id": 7, "name": "seven"}, {"id": 6, "name": "six"}),
        detector=(),
    ):
        (tmp_path / "images").mkdir(exist_ok=True)
        images, annotations = [], []
        for i in range(4):
            Image.new("RGB", (200, 100)).save(tmp_path / "images" / f"{i}.png")
            images.append({"id": image_id(i), "file_name": f"{i}.png", "height": 100, "width": 200})
            for j in range(objects if i < 3 else 0):  # the last image has no objects
                x, y = 10 * (j % 19), 10 * (j // 19)
                annotations.append(
                    {
                        "id": annotation_id(len(annotations)),
                        "image_id": image_id(i),
                        "category_id": 7 - j % classes,
                        "bbox": [x, y, 9, 9],
                        "area": 81,
                        "iscrowd": 0,
                        "segmentation": [[x, y, x + 9, y, x + 9, y + 9, x, y + 9]],
                    }
                )
        data = {"images": images, "annotations": annotations, "categories": list(categories)}
        (tmp_path / "data.json").write_text(json.dumps(data))
        if not fast:
            monkeypatch.setattr(evaluation, "has_fast_scoring", lambda: False)
        register_coco("truth", str(tmp_path / "data.json"), str(tmp_path / "images"))
        if detector:
            match_dataset("truth", detector)
        evaluator = build_evaluator("truth", str(tmp_path / "out"), detections=limit)
        evaluator.reset()
        for record in DatasetCatalog.get("truth"):
            evaluator.process(
                [{"image_id": record["image_id"]}],
                [{"instances": found(record, len(detector))[: None if detect else 0]}],
            )
        return evaluator.evaluate()

    yield score
    DatasetCatalog.remove("truth")
    MetadataCatalog.remove("truth")


def found(record, classes=0):
    """The objects of a record as detections, and one of each class where nothing is."""
    objects = record["annotations"]
    further = [dict(NOWHERE, category_id=k) for k in range(classes)]
    instances = as_detections({**record, "annotations": [*objects, *further]})
    instances.scores[len(objects) :] = 0.1
    return instances


@pytest.mark.parametrize("fast", [True, False], ids=["fast", "slow"])
@pytest.mark.parametrize("kind", ANNOTATION_IDS)
def test_annotation_ids_of_any_kind(kind, fast, truth):
    results = truth(annotation_id=ANNOTATION_IDS[kind], fast=fast)
    for task in ("bbox", "segm"):
        assert results[task]["AP-six"] == results[task]["AP-seven"] == pytest.approx(100)


@pytest.mark.parametrize("fast", [True, False], ids=["fast", "slow"])
@pytest.mark.parametrize("kind", IMAGE_IDS)
def test_image_ids_of_any_kind(kind, fast, truth, tmp_path):
    results = truth(image_id=IMAGE_IDS[kind], fast=fast)
    assert results["bbox"]["AP"] == results["segm"]["AP"] == pytest.approx(100)
    written = json.loads((tmp_path / "out" / "coco_instances_results.json").read_text())
    assert {r["image_id"] for r in written} == {IMAGE_IDS[kind](i) for i in range(3)}
    assert {r["category_id"] for r in written} == {6, 7}  # the file's own


def named(**ids):
    return [{"id": id_, "name": name} for name, id_ in ids.items()]


# Categories of the file, whose objects are of ids 6 and 7, and classes of the detector.
NAMES = {
    "same": (named(six=6, seven=7), ["six", "seven"]),
    "other order": (named(six=6, seven=7), ["seven", "six"]),
    "more in the detector": (named(six=6, seven=7), ["dog", "seven", "cat", "six", "ox"]),
    "more in the file": (named(six=6, dog=2, seven=7, ox=9), ["six", "seven"]),
    "more in both": (named(six=6, dog=2, seven=7), ["seven", "cat", "six"]),
    "other case": (named(SIX=6, **{" Seven ": 7}), ["seven", "six"]),
}


@pytest.mark.parametrize("fast", [True, False], ids=["fast", "slow"])
@pytest.mark.parametrize("case", NAMES)
def test_classes_are_matched_by_name(case, fast, truth, tmp_path):
    categories, detector = NAMES[case]
    results = truth(categories=categories, detector=detector, fast=fast)
    for task in ("bbox", "segm"):
        assert results[task]["AP-six"] == results[task]["AP-seven"] == pytest.approx(100)
        assert results[task]["AP"] == pytest.approx(100)
    written = json.loads((tmp_path / "out" / "coco_instances_results.json").read_text())
    assert {r["category_id"] for r in written} <= {c["id"] for c in categories}  # the file's own
    assert [r["category_id"] for r in written if r["score"] > 0.89] == [7, 7, 7]


def test_classes_are_matched_in_an_unknown_detectron2(truth, monkeypatch):
    monkeypatch.setattr(evaluation, "can_replace_scoring", lambda: False)
    categories, detector = NAMES["more in both"]
    results = truth(
        categories=categories, detector=detector, fast=False, annotation_id=lambda i: i + 1
    )
    assert results["bbox"]["AP-six"] == results["bbox"]["AP-seven"] == pytest.approx(100)


def test_objects_of_unknown_classes_are_refused(truth):
    with pytest.raises(ValueError, match=r"that the detector does not know: seven \(6\). It knows"):
        truth(categories=named(six=6, seven=7), detector=["dog", "six"])


@pytest.mark.parametrize("limit", [300, -1])
@pytest.mark.parametrize("fast", [True, False], ids=["fast", "slow"])
def test_more_objects_than_100(fast, limit, truth, caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger("resnest_d2"), "propagate", True)
    assert truth(objects=180, classes=1, fast=fast, limit=limit)["bbox"]["AP"] == pytest.approx(100)
    assert "detections per image" not in caplog.text


def test_more_objects_than_are_scored_is_a_warning(truth, caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger("resnest_d2"), "propagate", True)
    assert truth(objects=180)["bbox"]["AP"] == pytest.approx(100)  # the limit is per class
    assert "3 images of truth have more than 100 objects, up to 180" in caplog.text
    assert "set TEST.DETECTIONS_PER_IMAGE 180" in caplog.text


def test_a_limit_below_cocos_is_the_one_in_the_warning(truth, caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger("resnest_d2"), "propagate", True)
    truth(objects=30, limit=20)
    assert "more than 20 objects, up to 30, but only 20 detections" in caplog.text


@pytest.mark.parametrize("fast", [True, False], ids=["fast", "slow"])
def test_no_detections_score_0(fast, truth):
    results = truth(fast=fast, detect=False)
    assert [results["bbox"][name] for name in ("AP", "AP50", "AP75")] == [0, 0, 0]


def test_no_objects_is_a_warning_and_no_nan_in_the_file(truth, tmp_path, caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger("resnest_d2"), "propagate", True)
    truth(objects=0)
    assert "truth has no objects to evaluate on: its AP is undefined" in caplog.text
    results = {"truth": {"bbox": {"AP": float("nan"), "AP50": 1.5}}}
    cfg = get_cfg()
    cfg.OUTPUT_DIR = str(tmp_path)
    metrics.publish(results, cfg)
    assert json.loads((tmp_path / "results.json").read_text()) == {
        "truth": {"bbox": {"AP": None, "AP50": 1.5}}
    }
    assert metrics.defined(results) == {"truth": {"bbox": {"AP50": 1.5}}}
