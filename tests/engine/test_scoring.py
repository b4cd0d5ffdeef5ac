"""The fast scoring gives pycocotools' numbers, to the last digit."""

import json
from unittest import mock

import numpy as np
import pytest
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.evaluation import coco_evaluation
from detectron2.structures import Boxes, Instances

from resnest_d2.data import register_coco
from resnest_d2.engine import CocoEvaluator, scoring
from resnest_d2.engine.evaluation import build_evaluator

SIZE = (40, 60)  # of an image


def boxes_and_masks(rng, number):
    """XYXY boxes (n, 4) and elliptic masks (n, H, W)."""
    start = rng.uniform(0, (45, 25), (number, 2))
    boxes = np.hstack([start, start + rng.uniform(3, (45, 30), (number, 2))])
    centre, radius = (boxes[:, :2] + boxes[:, 2:]) / 2, (boxes[:, 2:] - boxes[:, :2]) / 2
    y, x = np.mgrid[: SIZE[0], : SIZE[1]]
    grid = (np.stack([x, y], -1)[None] - centre[:, None, None]) / radius[:, None, None]
    return boxes, (grid**2).sum(-1) <= 1


@pytest.fixture
def register(coco_files):
    """A function that registers "scored": three classes (one never annotated), some crowds."""

    def call(change=lambda data: None):
        def annotate(data):
            rng = np.random.default_rng(0)
            data["categories"].append({"id": 5, "name": "bird"})
            data["annotations"] = []
            for number in range(14):  # all on the first image but two
                x, y, x2, y2 = boxes_and_masks(rng, 1)[0][0].clip(0, (60, 40, 60, 40)).tolist()
                ring = [x, y, x2, y, x2, y2, x, y2]
                annotation = {
                    "id": number,
                    "image_id": 1 + (number > 11),
                    "category_id": (7, 3)[number % 2],
                    "bbox": [x, y, x2 - x, y2 - y],
                    "segmentation": [ring],
                }
                if number in (3, 8):
                    annotation["iscrowd"] = 1
                data["annotations"].append(annotation)
            change(data)

        register_coco("scored", *coco_files(annotate))

    yield call
    DatasetCatalog.remove("scored")
    MetadataCatalog.remove("scored")


def evaluate(
    monkeypatch, *, fast, found=30, img_ids=None, images=(1, 2), pairs=scoring.PAIRS, **options
):
    """Results, and of every task the scoring class and its stats."""
    monkeypatch.undo()
    monkeypatch.setattr(scoring, "PAIRS", pairs)
    scored, derive = {}, CocoEvaluator._derive_coco_results

    def record(self, coco_eval, task, class_names=None):
        if coco_eval is not None:
            scored[task] = (type(coco_eval).__name__, coco_eval.stats.copy())
        return derive(self, coco_eval, task, class_names)

    monkeypatch.setattr(CocoEvaluator, "_derive_coco_results", record)
    evaluator = CocoEvaluator("scored", distributed=False, use_fast_impl=fast, **options)
    evaluator.reset()
    rng = np.random.default_rng(1)
    api = evaluator._coco_api
    for image_id in images:
        boxes, masks = boxes_and_masks(rng, found)
        truth = api.imgToAnns[image_id][: found // 2]
        for i, a in enumerate(truth):  # hits, and by the random classes misses
            x, y, w, h = a["bbox"]
            boxes[i], masks[i] = (x + 1, y, x + w, y + h), api.annToMask(a)
        instances = Instances(SIZE)
        instances.pred_boxes = Boxes(torch.tensor(boxes, dtype=torch.float32))
        instances.pred_masks = torch.tensor(masks)
        scores = rng.integers(1, 10, found) / 10  # many are level
        instances.scores = torch.tensor(scores, dtype=torch.float32)
        instances.pred_classes = torch.tensor(rng.integers(0, 3, found))
        evaluator.process([{"image_id": image_id}], [{"instances": instances}])
    return evaluator.evaluate(img_ids), scored


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"found": 400},  # more than 100 an image
        {"max_dets_per_image": 5},
        {"max_dets_per_image": 300, "found": 400},
        {"img_ids": [1]},
        {"tasks": ("bbox",)},
        {"pairs": 1},  # one category at a time
    ],
    ids=str,
)
def test_numbers_of_pycocotools(options, register, monkeypatch):
    pytest.importorskip("faster_coco_eval")
    register()
    slow, slow_scored = evaluate(monkeypatch, fast=False, **options)
    fast, fast_scored = evaluate(monkeypatch, fast=True, **options)
    assert json.dumps(slow) == json.dumps(fast)  # every digit, per-category AP too
    assert {"AP-cat", "AP-dog", "AP-bird"} <= set(fast["bbox"])
    assert 0 < fast_scored["bbox"][1][0] < 1 and 0 < fast_scored["bbox"][1][8] < 1
    assert set(fast_scored) == set(slow_scored) == set(options.get("tasks", ("bbox", "segm")))
    for task, (name, stats) in fast_scored.items():
        assert name == "FastCocoEval" and slow_scored[task][0].startswith("COCOeval")
        assert stats.shape == (12,)
        np.testing.assert_array_equal(stats, slow_scored[task][1])


def test_groups_of_categories(monkeypatch):
    monkeypatch.setattr(scoring, "PAIRS", 100)
    assert list(scoring.groups([20, 30])) == [(0, 2)]  # 2 categories of 50 images at most
    assert list(scoring.groups([20, 31])) == [(0, 1), (1, 2)]
    assert list(scoring.groups([500, 0, 10, 0, 15, 1])) == [(0, 1), (1, 5), (5, 6)]
    assert list(scoring.groups([])) == [(0, 0)]


def test_large_sets_are_scored_in_groups(register, monkeypatch):
    fast = pytest.importorskip("faster_coco_eval").COCOeval_faster
    register()
    scored, run = [], fast.evaluate

    def record(self):
        scored.append((self.params.catIds, self.params.imgIds))
        run(self)

    with mock.patch.object(fast, "evaluate", record):
        evaluate(monkeypatch, fast=True, pairs=1, tasks=("bbox",), images=(1,))
    assert scored == [([1], [1, 2]), ([2], [1]), ([3], [1, 2])]  # the second is not annotated


def test_ids_of_images_that_are_text(register, monkeypatch):
    pytest.importorskip("faster_coco_eval")

    def change(data):
        for image in data["images"]:
            image["id"] = f"image {image['id']}"
        for annotation in data["annotations"]:
            annotation["image_id"] = f"image {annotation['image_id']}"

    register(change)
    ids = ("image 1", "image 2")
    slow, _ = evaluate(monkeypatch, fast=False, images=ids)
    fast, scored = evaluate(monkeypatch, fast=True, images=ids)
    assert json.dumps(slow) == json.dumps(fast) and fast["bbox"]["AP"] > 0
    assert scored["bbox"][0] == "FastCocoEval"


def test_nothing_found(register, monkeypatch):
    register()
    results, scored = evaluate(monkeypatch, fast=True, found=0, tasks=("bbox", "segm"))
    assert scored == {} and results["segm"]["AP"] == 0  # undefined in detectron2


def test_images_without_annotations(register, monkeypatch):
    pytest.importorskip("faster_coco_eval")
    register(lambda data: data["annotations"].clear())
    slow, slow_scored = evaluate(monkeypatch, fast=False)
    fast, fast_scored = evaluate(monkeypatch, fast=True)
    assert json.dumps(slow) == json.dumps(fast)
    np.testing.assert_array_equal(fast_scored["bbox"][1], np.full(12, -1.0))
    np.testing.assert_array_equal(slow_scored["bbox"][1], np.full(12, -1.0))


def test_without_the_library(register, monkeypatch):
    register()
    expected, _ = evaluate(monkeypatch, fast=False)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scoring, "find_spec", lambda name: None)
        results, scored = evaluate(monkeypatch, fast=True)
    # detectron2's own: its compiled class where it has one, else pycocotools'.
    own = coco_evaluation.COCOeval_opt.__name__
    assert {name for name, _ in scored.values()} == {own}
    assert json.dumps(results) == json.dumps(expected)


def test_chosen_where_installed(register, monkeypatch, tmp_path):
    register()
    for spec in (None, object()):
        monkeypatch.setattr(scoring, "find_spec", lambda name, spec=spec: spec)
        (evaluator,) = build_evaluator("scored", str(tmp_path))._evaluators
        assert evaluator.fast == (spec is not None)
