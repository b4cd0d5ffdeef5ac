import pytest
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.structures import Boxes, Instances

from resnest_d2.data import register_coco
from resnest_d2.engine import CocoEvaluator, ap_table
from resnest_d2.engine.evaluation import by_dataset


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
