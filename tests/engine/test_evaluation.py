import contextlib
import io
import json
import logging

import pytest
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.structures import Boxes, Instances
from pycocotools.coco import COCO

from resnest_d2 import get_cfg
from resnest_d2.data import register_coco
from resnest_d2.data.coco_api import complete_annotations
from resnest_d2.engine import CocoEvaluator, ap_table, evaluation
from resnest_d2.engine.evaluation import build_evaluator, check_evaluation, main_metric
from resnest_d2.engine.metrics import by_dataset, publish


@pytest.fixture
def dataset(coco_files):
    """Without info, iscrowd and area, which COCO's scoring asks for, and with the id 0."""

    def begin_at_zero(data):
        for annotation in data["annotations"]:
            annotation["id"] -= 1

    register_coco("evaluated", *coco_files(begin_at_zero))
    yield "evaluated"
    DatasetCatalog.remove("evaluated")
    MetadataCatalog.remove("evaluated")


def test_scores_files_without_area_and_crowd_and_with_id_zero(dataset, tmp_path):
    evaluator = CocoEvaluator(dataset, output_dir=str(tmp_path), use_fast_impl=False)
    evaluator.reset()
    for image_id in (1, 2):
        found = Instances((40, 60))
        right = torch.tensor([[10.0, 5.0, 30.0, 35.0]])
        found.pred_boxes = Boxes(right if image_id == 1 else right + 100)
        found.scores, found.pred_classes = torch.tensor([0.9]), torch.tensor([1])
        mask = torch.zeros(1, 40, 60, dtype=torch.bool)
        mask[:, 5:35, 10:30] = True
        found.pred_masks = mask
        evaluator.process([{"image_id": image_id}], [{"instances": found}])
    results = evaluator.evaluate()
    # One of two boxes found, ahead of or level with the wrong one: precision 1 up to recall 0.5.
    assert results["bbox"]["AP"] == pytest.approx(100 * 51 / 101, abs=0.1)
    assert results["segm"]["AP"] == pytest.approx(100, abs=0.1)
    assert {a["area"] for a in evaluator._coco_api.anns.values()} == {600.0}


@pytest.mark.parametrize(
    ("fields", "area"),
    [
        ({"iscrowd": None, "area": None}, 600),
        ({"iscrowd": "0", "area": "600"}, 600),
        ({"area": -1, "segmentation": [[10, 5, 20, 5, 20, 35, 10, 35], [1, 1]]}, 300),
        ({"segmentation": [[1, 1, 5, 5]]}, 600),
        ({"segmentation": []}, 600),
        ({"area": 7}, 7),
    ],
    ids=str,
)
def test_completes_what_scoring_needs(fields, area, coco_files):
    path, _ = coco_files(lambda data: data["annotations"][0].update(fields))
    with contextlib.redirect_stdout(io.StringIO()):
        api = COCO(path)
    complete_annotations(api)
    annotation = api.anns[1]
    assert (annotation["iscrowd"], annotation["area"]) == (0, area)
    if annotation["segmentation"]:
        assert api.annToMask(annotation).sum() == (area if area == 300 else 600)


def test_table():
    results = {"bbox": {"AP": 41.987, "AP50": 60.0}, "segm": {"AP": 38.1}}
    lines = ap_table(by_dataset(results, ["val"])).splitlines()
    assert [cell.strip() for cell in lines[2].split("|")[1:5]] == ["val", "box", "41.99", "60.00"]
    assert [cell.strip() for cell in lines[3].split("|")[1:4]] == ["val", "mask", "38.10"]
    assert len(lines) == 4


def test_several_data_sets():
    results = {"a": {"bbox": {"AP": 1.0}}, "b": {"bbox": {"AP": 2.0}}}
    assert by_dataset(results, ["a", "b"]) is results
    assert len(ap_table(results).splitlines()) == 4


@pytest.mark.parametrize(
    ("names", "masks", "expected"),
    [((), True, "segm/AP"), (("a",), False, "bbox/AP"), (("a", "b"), True, "a/segm/AP")],
)
def test_names_the_ap_that_evaluations_are_compared_by(names, masks, expected):
    cfg = get_cfg()
    cfg.DATASETS.TEST, cfg.MODEL.MASK_ON = names, masks
    assert main_metric(cfg) == expected


def test_augmented_results_stand_beside_the_plain_ones(tmp_path):
    cfg = get_cfg()
    cfg.OUTPUT_DIR = str(tmp_path)
    publish({"val": {"bbox": {"AP": 1.0}}}, cfg)
    publish({"val": {"bbox_TTA": {"AP": 2.0}}}, cfg, beside=True)
    stored = json.loads((tmp_path / "results.json").read_text())
    assert stored == {"val": {"bbox": {"AP": 1.0}, "bbox_TTA": {"AP": 2.0}}}
    assert [line.split("|")[2].strip() for line in ap_table(stored).splitlines()[2:]] == [
        "box",
        "box_TTA",
    ]
    publish({"val": {"bbox": {"AP": 3.0}}}, cfg)  # a new evaluation begins anew
    stored = json.loads((tmp_path / "results.json").read_text())
    assert stored == {"val": {"bbox": {"AP": 3.0}}}


@pytest.mark.parametrize(
    ("limit", "words"),
    [
        (300, "at up to 300 detections per image:"),
        (20, "at up to 20 detections per image:"),
        (-1, "with all detections of an image:"),
    ],
)
def test_the_table_names_the_limit_of_detections(limit, words, tmp_path, caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger("resnest_d2"), "propagate", True)
    cfg = get_cfg()
    cfg.OUTPUT_DIR, cfg.TEST.DETECTIONS_PER_IMAGE = str(tmp_path), limit
    with caplog.at_level(logging.INFO, "resnest_d2"):
        publish({"val": {"bbox": {"AP": 1.0}}}, cfg)
    assert f"Average precision, percent, {words}" in caplog.text


@pytest.fixture
def kind_of_set():
    def register(kind, **metadata):
        DatasetCatalog.register("kind_of_set", list)
        metadata = {"thing_classes": ["a"], "stuff_classes": ["b"], **metadata}
        MetadataCatalog.get("kind_of_set").set(evaluator_type=kind, **metadata)

    yield register
    DatasetCatalog.remove("kind_of_set")
    MetadataCatalog.remove("kind_of_set")


def test_evaluators_of_panoptic_segmentation(kind_of_set, monkeypatch, tmp_path, coco_files):
    json_file, _ = coco_files()
    kind_of_set(
        "coco_panoptic_seg",
        json_file=json_file,
        thing_dataset_id_to_contiguous_id={7: 0, 3: 1},
        stuff_dataset_id_to_contiguous_id={1: 0},
        ignore_label=255,
    )
    monkeypatch.setattr(evaluation, "find_spec", lambda name: None)
    with pytest.raises(ImportError, match="kind_of_set needs panopticapi: pip install git"):
        build_evaluator("kind_of_set", str(tmp_path))
    monkeypatch.setattr(evaluation, "find_spec", lambda name: object())
    parts = build_evaluator("kind_of_set", str(tmp_path))._evaluators
    names = [type(part).__name__ for part in parts]
    assert names == ["SemSegEvaluator", "CocoEvaluator", "COCOPanopticEvaluator"]


def test_no_evaluator(kind_of_set, tmp_path):
    kind_of_set("lvis")
    message = "kind_of_set has evaluator_type lvis; choose from coco"
    with pytest.raises(ValueError, match=message):
        build_evaluator("kind_of_set", str(tmp_path))
    cfg = get_cfg()
    cfg.DATASETS.TEST = ("kind_of_set",)
    with pytest.raises(ValueError, match=message):  # before a training
        check_evaluation(cfg)
