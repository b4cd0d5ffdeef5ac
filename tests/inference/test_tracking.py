"""Objects keep their numbers through a video."""

import sys
from importlib.util import find_spec

import numpy as np
import pytest
import torch
from detectron2.data.catalog import Metadata
from detectron2.structures import Boxes, Instances

from resnest_d2.errors import UserError
from resnest_d2.inference import Prediction, Stream, Tracker
from resnest_d2.inference.images import InputImage, Source

FRAMES, OBJECTS = 100, 4
tracked = pytest.mark.skipif(not find_spec("trackers"), reason="trackers is not installed")


def read(order):
    return np.zeros((400, 400, 3), np.uint8)


def prediction(boxes, frame, scores=None, name="v.mp4", fps=30.0):
    found = Instances((400, 400))
    found.pred_boxes = Boxes(torch.tensor(np.array(boxes), dtype=torch.float32).reshape(-1, 4))
    found.scores = torch.tensor(scores or [0.9] * len(boxes))
    found.pred_classes = torch.zeros(len(boxes), dtype=torch.long)
    image = InputImage(f"{name}#{frame}", name, frame, read, read, fps)
    return Prediction(image, found, Metadata(thing_classes=["ball"]))


def crossing():
    """Boxes of four objects in 100 frames: two pairs cross, and two of them all but meet.

    Their detector jitters, misses one in twenty, and lists what it finds in any order.
    """
    rng = np.random.default_rng(0)
    for t in np.linspace(0, 1, FRAMES):
        ways = [(20 + 320 * t, 60), (340 - 320 * t, 84), (60 + 10 * t, 320 * t + 20)]
        ways.append((76 + 250 * t, 350 - 300 * t))
        boxes = [np.array([x, y, x + 40, y + 40]) + rng.normal(0, 1, 4) for x, y in ways]
        seen = [i for i in rng.permutation(OBJECTS) if rng.random() > 0.05]
        yield seen, [boxes[i] for i in seen]


@tracked
def test_objects_that_cross_keep_their_numbers():
    tracker, last, switches, counted = Tracker(0.5), {}, 0, 0
    for frame, (objects, boxes) in enumerate(crossing()):
        one = prediction(boxes, frame)
        tracker.update(one)
        assert one.track_ids.shape == (len(boxes),)
        for i, number in zip(objects, one.track_ids.tolist(), strict=True):
            if number >= 0:
                switches += last.get(i, number) != number
                last[i] = number
                counted += 1
    print(f"{switches} switches, {counted} tracked detections, numbers {last}")
    assert switches <= 1 and counted > 0.9 * FRAMES * OBJECTS
    assert len(set(last.values())) == OBJECTS


@tracked
def test_numbers_begin_again_with_every_video():
    tracker, box = Tracker(0.5), [[10, 10, 50, 50]]
    frames = [("v.mp4", 0), ("v.mp4", 1), ("w.mp4", 2), ("w.mp4", 3), ("w.mp4", 0), ("w.mp4", 1)]
    numbers = []
    for name, frame in frames:
        one = prediction(box, frame, name=name)
        tracker.update(one)
        numbers += one.track_ids.tolist()
    assert numbers == [-1, 0] * 3


@tracked
def test_the_score_threshold_begins_tracks():
    for threshold, expected in ((0.3, [0, 1]), (0.5, [0, -1])):
        tracker = Tracker(threshold)
        for frame in range(3):
            boxes = [[10, 10, 50, 50], [200, 200, 260, 260]]
            one = prediction(boxes, frame, scores=[0.9, 0.4])
            tracker.update(one)
        assert one.track_ids.tolist() == expected
    empty = prediction([], 3)
    tracker.update(empty)
    assert empty.track_ids.shape == (0,)


@tracked
def test_numbers_are_in_drawings_and_records():
    one, other = prediction([[100, 100, 200, 200]], 0), prediction([[100, 100, 200, 200]], 1)
    tracker = Tracker(0.5)
    np.random.seed(0)  # the Visualizer's colours
    without = np.asarray(other.draw())
    tracker.update(one)
    tracker.update(other)
    np.random.seed(0)
    assert (np.asarray(other.draw()) != without).any()
    assert one.to_coco(1)[0]["track_id"] is None and other.to_coco(2)[0]["track_id"] == 0


@tracked
def test_a_stream_is_tracked_in_its_order():
    images = (prediction([], i).image for i in range(6))

    def work(chunk):
        return [prediction([[10 * c.frame, 10, 10 * c.frame + 40, 50]], c.frame) for c in chunk]

    stream = Stream(Source(images, 6, single=False), work, chunk=2, workers=2)
    stream.each = Tracker(0.5).update
    assert [p.track_ids.tolist() for p in stream] == [[-1]] + [[0]] * 5


@tracked
def test_images_are_not_tracked():
    one = prediction([], 0)
    one.image = one.image._replace(name="a.jpg", frame=None)
    with pytest.raises(UserError, match="a.jpg is an image; only objects in videos are tracked"):
        Tracker(0.5).update(one)


def test_without_trackers(monkeypatch):
    monkeypatch.setitem(sys.modules, "trackers", None)
    with pytest.raises(ImportError, match="pip install --no-deps trackers"):
        Tracker(0.5)
