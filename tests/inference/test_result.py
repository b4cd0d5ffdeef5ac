"""A prediction drawn, and in the formats of others."""

import io
import json
import sys

import numpy as np
import pytest
import torch
from detectron2.data.catalog import Metadata
from detectron2.structures import Boxes, Instances
from PIL import Image

from resnest_d2.inference import Prediction
from resnest_d2.inference.masks import PackedMasks
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


def packed(prediction):
    """The same with its masks as RLE."""
    masks = prediction.instances.pred_masks
    prediction.instances.pred_masks = PackedMasks.place(masks, (0, 0), (40, 60))
    return prediction


def test_coco_records_have_the_ids_of_the_data(prediction):
    first, second = prediction.to_coco(12)
    assert (first["image_id"], first["category_id"], second["category_id"]) == (12, 7, 4)
    assert first["bbox"] == [10, 5, 20, 30] and first["score"] == pytest.approx(0.9)
    assert first["segmentation"]["size"] == [40, 60]
    assert first["keypoints"] == prediction.to_coco(1)[0]["keypoints"] == [1.5, 1.5, 2.0]
    prediction.metadata = Metadata()
    assert [r["category_id"] for r in prediction.to_coco(1)] == [1, 0]


def test_packed_masks_give_the_same_results(prediction):
    expected = prediction.to_coco(3), prediction.masks.copy(), np.asarray(prediction.draw())
    del prediction.instances._fields["pred_keypoints"]
    plain = prediction.to_coco(3), prediction.masks, prediction.draw()
    found = packed(prediction)
    assert found.to_coco(3) == plain[0] and "track_id" not in expected[0][0]
    assert np.array_equal(found.masks, expected[1]) and found.masks.shape == (2, 40, 60)
    drawn = np.asarray(found.draw())
    assert (drawn[10:30, 12:28] != (10, 20, 30)).any(2).mean() > 0.9
    assert not (drawn[28:, 45:] != (10, 20, 30)).any()


def test_arrays(prediction):
    assert prediction.boxes.tolist() == [[10, 5, 30, 35], [40, 20, 50, 30]]
    assert prediction.boxes.dtype == prediction.scores.dtype == np.float32
    assert prediction.scores.tolist() == pytest.approx([0.9, 0.4])
    assert prediction.classes.tolist() == [1, 0] and prediction.classes.dtype == np.int64
    assert prediction.names.tolist() == ["dog", "cat"] and prediction.names.dtype.kind == "U"
    assert prediction.masks.dtype == bool and prediction.masks.sum(axis=(1, 2)).tolist() == [600, 0]
    assert prediction.track_ids is None
    prediction.instances.track_ids = torch.tensor([3, -1])
    assert prediction.track_ids.tolist() == [3, -1]
    del prediction.instances._fields["pred_masks"]
    assert prediction.masks is None
    prediction.instances = prediction.instances[:0]
    assert prediction.boxes.shape == (0, 4) and prediction.names.shape == (0,)


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


def test_drawing_everything_copies_no_masks(prediction, monkeypatch):
    taken = []
    index = Instances.__getitem__
    monkeypatch.setattr(
        Instances, "__getitem__", lambda self, item: taken.append(item) or index(self, item)
    )
    prediction.draw(threshold=0.3)
    assert taken == []
    prediction.draw(threshold=0.5)
    assert [item.tolist() for item in taken] == [[True, False]]


def test_json(prediction):
    prediction.instances.track_ids = torch.tensor([5, -1])
    found = json.loads(prediction.to_json())
    assert found["file_name"] == prediction.path and found["frame"] is None
    assert (found["height"], found["width"]) == (40, 60)
    first, second = found["detections"]
    assert (first["name"], first["category_id"], first["track_id"]) == ("dog", 7, 5)
    assert first["bbox"] == [10, 5, 20, 30] and first["segmentation"]["size"] == [40, 60]
    assert (second["name"], second["track_id"]) == ("cat", None) and "image_id" not in second


def test_pandas(prediction):
    pytest.importorskip("pandas")
    table = prediction.to_pandas()
    assert list(table.columns[:4]) == ["file_name", "name", "class_id", "score"]
    assert table.name.tolist() == ["dog", "cat"] and table.x1.tolist() == [30, 50]
    assert table.score.tolist() == pytest.approx([0.9, 0.4])
    prediction.instances = prediction.instances[:0]
    empty = prediction.to_pandas()
    assert len(empty) == 0 and list(empty.columns) == list(table.columns)


def test_without_pandas(prediction, monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(ImportError, match=r"pip install 'resnest-d2\[pandas\]'"):
        prediction.to_pandas()


def test_save(prediction, tmp_path):
    drawn = np.asarray(prediction.draw())
    prediction.save(tmp_path / "b.png")
    with Image.open(tmp_path / "b.png") as image:
        assert image.format == "PNG" and np.array_equal(np.asarray(image)[0], drawn[0])
    before = (tmp_path / "b.png").read_bytes()
    with pytest.raises(FileExistsError, match="b.png exists"):
        prediction.save(tmp_path / "b.png", scale=2)
    assert (tmp_path / "b.png").read_bytes() == before
    prediction.save(tmp_path / "b.png", overwrite=True, scale=2)
    with Image.open(tmp_path / "b.png") as image:
        assert image.size == (120, 80)
    with pytest.raises(ValueError, match="a.png is an input"):
        prediction.save(tmp_path / "a.png", overwrite=True)
    with pytest.raises(ValueError, match=r"b.txt is no image by its name; choose from .jpg"):
        prediction.save(tmp_path / "b.txt")


def test_show(prediction, monkeypatch):
    shown = []
    monkeypatch.setattr(Image.Image, "show", lambda self, title: shown.append((self.size, title)))
    prediction.show(scale=2)
    assert shown == [((120, 80), "a.png")]


def test_a_notebook_shows_the_drawing(prediction, monkeypatch):
    with Image.open(io.BytesIO(prediction._repr_png_())) as image:
        assert image.format == "PNG" and image.size == (60, 40)
    monkeypatch.setattr("resnest_d2.inference.result.SHOWN", 30)
    with Image.open(io.BytesIO(prediction._repr_png_())) as image:
        assert image.size == (30, 20)


def test_supervision(prediction):
    prediction.instances.track_ids = torch.tensor([5, 6])
    detections = prediction.to_supervision()
    assert detections.xyxy.tolist() == [[10, 5, 30, 35], [40, 20, 50, 30]]
    assert detections.data["class_name"].tolist() == ["dog", "cat"]
    assert detections.class_id.tolist() == [1, 0] and detections.mask[0].sum() == 600
    assert detections.tracker_id.tolist() == [5, 6]
    assert len(packed(prediction).to_supervision().mask) == 2
    prediction.instances = prediction.instances[:0]
    assert len(prediction.to_supervision()) == 0
