"""Which detections are kept."""

import pytest
import torch
from detectron2.data.catalog import Metadata
from detectron2.structures import Boxes, Instances

from resnest_d2.errors import UserError
from resnest_d2.inference.selection import select

METADATA = Metadata(thing_classes=["cat", "dog", "cow"])


@pytest.fixture
def found():
    return Instances(
        (9, 9),
        pred_boxes=Boxes(torch.arange(20.0).reshape(5, 4)),
        scores=torch.tensor([0.9, 0.5, 0.8, 0.7, 0.6]),
        pred_classes=torch.tensor([0, 1, 2, 1, 0]),
    )


@pytest.mark.parametrize(
    ("only", "limit", "expected"),
    [
        ((), None, [0.9, 0.5, 0.8, 0.7, 0.6]),
        ((), 2, [0.9, 0.8]),
        (("dog", "cow"), None, [0.5, 0.8, 0.7]),
        (("cow", "dog"), 2, [0.8, 0.7]),
        (("cat",), 9, [0.9, 0.6]),
    ],
)
def test_classes_first_then_the_best(only, limit, expected, found):
    kept = select(METADATA, only, limit)(found)
    assert kept.scores.tolist() == pytest.approx(expected)
    assert len(kept.pred_boxes) == len(expected)


@pytest.mark.parametrize(
    ("metadata", "only", "limit", "message"),
    [
        (METADATA, ("cta",), None, "no class 'cta'; choose from cat"),
        (METADATA, ("zebra",), None, "no class 'zebra'; choose from cat, dog, cow"),
        (METADATA, (), 0, "number of detections is 0; choose 1"),
        (Metadata(), ("cat",), None, r"names .* are unknown: pass classes=\[...\]"),
    ],
)
def test_refuses_what_it_cannot_keep(metadata, only, limit, message):
    with pytest.raises(UserError, match=message):
        select(metadata, only, limit)


def test_the_predictor_keeps_them(monkeypatch):
    from resnest_d2.inference import Predictor, predictor

    config = "quick_schedules/faster_rcnn_ResNeSt_14_FPN_quick.yaml"
    monkeypatch.setattr(predictor, "build_trained", lambda cfg: cfg.TEST.DETECTIONS_PER_IMAGE)
    names = [f"class {i}" for i in range(80)]
    options = {"backend": "plain", "device": "cpu", "classes": names}
    assert Predictor(config, **options).model == 100
    limited = Predictor(config, max_detections=300, **options)
    assert limited.model == 300 and limited.selection == (None, 300)
    chosen = Predictor(config, only=["class 2", "class 0"], max_detections=5, **options)
    assert chosen.model == 1000 and chosen.selection == ((0, 2), 5)
    with pytest.raises(UserError, match="max_detections and TEST.DETECTIONS_PER_IMAGE in opts"):
        opts = ["TEST.DETECTIONS_PER_IMAGE", 7]
        Predictor(config, max_detections=5, opts=opts, **options)
