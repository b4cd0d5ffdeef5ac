"""A prediction drawn, and in the formats of others."""

import sys

import numpy as np
import pytest
import torch
from detectron2.data.catalog import Metadata
from detectron2.structures import Boxes, Instances
from PIL import Image

from resnest_d2.inference import Prediction
from resnest_d2.inference.sources import open_source


@pytest.fixture
def prediction(tmp_path):
    Image.new("RGB", (60, 40), (10, 20, 30)).save(tmp_path / "a.png")
    (image,) = open_source(tmp_path / "a.png").images
    found = Instances((40, 60))
    found.pred_boxes = Boxes(torch.tensor([[10.0, 5, 30, 35], [40, 20, 50, 30]]))
    found.scores, found.pred_classes = torch.tensor([0.9, 0.4]), torch.tensor([1, 0])
    found.pred_masks = torch.zeros(2, 40, 60, dtype=torch.bool)
    found.pred_masks[0, 5:35, 10:30] = True
    found.pred_keypoints = torch.full((2, 1, 3), 2.0)
    return Prediction(image, found, Metadata(thing_classes=["cat", "dog"], category_ids=[4, 7]))


def test_coco_records_have_the_ids_of_the_data(prediction):
    first, second = prediction.to_coco(12)
    assert (first["image_id"], first["category_id"], second["category_id"]) == (12, 7, 4)
    assert first["bbox"] == [10, 5, 20, 30] and first["score"] == pytest.approx(0.9)
    assert first["segmentation"]["size"] == [40, 60]
    assert first["keypoints"] == prediction.to_coco(1)[0]["keypoints"] == [1.5, 1.5, 2.0]
    prediction.metadata = Metadata()
    assert [r["category_id"] for r in prediction.to_coco(1)] == [1, 0]


def test_names(prediction):
    assert repr(prediction) == "Prediction(a.png: 1 dog, 1 cat)" and len(prediction) == 2
    prediction.metadata = Metadata()
    assert prediction.class_names == ["1", "0"]


def changed(prediction, **options):
    drawn = prediction.draw(**options)
    return (np.asarray(drawn) != (10, 20, 30)).any(2)


def test_draws_what_scores_enough(prediction):
    del prediction.instances._fields["pred_keypoints"]
    drawn = changed(prediction)
    assert drawn.shape == (40, 60) and drawn[10:30, 12:28].mean() > 0.9
    assert not drawn[28:, 45:].any()  # 0.4 is below 0.5
    assert changed(prediction, threshold=0.3)[28:31, 40:50].any()
    prediction.threshold = 0.3
    assert changed(prediction)[28:31, 40:50].any()
    assert changed(prediction, scale=2).shape == (80, 120)


def test_supervision(prediction):
    pytest.importorskip("supervision")
    detections = prediction.to_supervision()
    assert detections.xyxy.tolist() == [[10, 5, 30, 35], [40, 20, 50, 30]]
    assert detections.data["class_name"].tolist() == ["dog", "cat"]
    assert detections.class_id.tolist() == [1, 0] and detections.mask[0].sum() == 600
    prediction.instances = prediction.instances[:0]
    assert len(prediction.to_supervision()) == 0


def test_without_supervision(prediction, monkeypatch):
    monkeypatch.setitem(sys.modules, "supervision", None)
    with pytest.raises(ImportError, match=r"pip install 'resnest-d2\[supervision\]'"):
        prediction.to_supervision()
