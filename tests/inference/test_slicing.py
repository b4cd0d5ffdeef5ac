"""Slices of an image, and what is gained by them."""

import numpy as np
import pytest
import torch
from detectron2.structures import Boxes, Instances

from resnest_d2.errors import UserError
from resnest_d2.inference.masks import PackedMasks
from resnest_d2.inference.slicing import Slice, Slicing, merge, slices, slicing_of


def test_slices_cover_the_image_and_overlap():
    parts = slices(1000, 2100, Slicing(640, 0.2))
    assert parts[0] == Slice(0, 0, 1000, 2100)
    count = np.zeros((1000, 2100), int)
    for part in parts[1:]:
        assert (part.y1 - part.y0, part.x1 - part.x0) == (640, 640)
        count[part.y0 : part.y1, part.x0 : part.x1] += 1
    assert count.min() == 1 and len(parts) == 1 + 2 * 4
    columns = sorted({part.x0 for part in parts[1:]})
    assert min(a + 640 - b for a, b in zip(columns, columns[1:], strict=False)) >= 128
    assert slices(300, 2000, Slicing(640, 0.0))[1:] == [
        Slice(0, x, 300, x + 640) for x in (0, 453, 907, 1360)
    ]
    assert slices(640, 200, Slicing(640, 0.2)) == [Slice(0, 0, 640, 200)]


@pytest.mark.parametrize(
    ("size", "overlap", "message"),
    [(31, 0.2, "31; choose 32"), (640, 0.9, "0.9; choose 0 to"), (640, -0.1, "-0.1; choose")],
)
def test_refuses_values_out_of_range(size, overlap, message):
    with pytest.raises(UserError, match=message):
        slicing_of(size, overlap)
    assert slicing_of(None, overlap) is None


def found(boxes, scores, classes, size=(100, 100), masks=False):
    one = Instances(size)
    one.pred_boxes = Boxes(torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4))
    one.scores, one.pred_classes = torch.tensor(scores), torch.tensor(classes, dtype=torch.long)
    if masks:
        one.pred_masks = torch.zeros(len(boxes), *size, dtype=torch.bool)
        for mask, box in zip(one.pred_masks, boxes, strict=True):
            x0, y0, x1, y1 = (int(v) for v in box)
            mask[y0:y1, x0:x1] = True
    return one


PARTS = [Slice(0, 0, 100, 100), Slice(0, 80, 100, 180)]


def test_duplicates_are_merged_by_class():
    left = found([[82, 10, 96, 30], [10, 10, 30, 30]], [0.7, 0.6], [0, 0])
    right = found([[2.5, 10, 16, 30], [2.5, 10, 16, 30]], [0.8, 0.5], [0, 1])
    merged = merge([left, right], PARTS, (100, 180))
    assert merged.image_size == (100, 180)
    assert merged.scores.tolist() == pytest.approx([0.8, 0.6, 0.5])
    assert merged.pred_classes.tolist() == [0, 0, 1]
    assert merged.pred_boxes.tensor[0].tolist() == [82.5, 10, 96, 30]


def test_a_piece_at_the_border_goes_where_a_whole_one_covers_it():
    left = found([[85, 10, 100, 30]], [0.9], [0])  # cut at x = 100
    right = found([[5, 10, 45, 30], [30, 60, 60, 90]], [0.6, 0.55], [0, 0])
    merged = merge([left, right], PARTS, (100, 180))
    assert merged.pred_boxes.tensor.tolist() == [[85, 10, 125, 30], [110, 60, 140, 90]]
    alone = merge([left, found([], [], [])], PARTS, (100, 180))
    assert alone.pred_boxes.tensor.tolist() == [[85, 10, 100, 30]]  # better than nothing
    other = found([[5, 10, 45, 30]], [0.6], [1])
    assert len(merge([left, other], PARTS, (100, 180))) == 2


def test_neighbours_within_a_slice_stay():
    """One inside the other is no duplicate, unless it is a piece at the border."""
    left = found([[10, 10, 70, 70], [20, 20, 40, 40]], [0.9, 0.8], [0, 0])
    assert len(merge([left, found([], [], [])], PARTS, (100, 180))) == 2


def test_masks_and_keypoints_move_with_their_slice():
    left, right = found([], [], [], masks=True), found([[5, 10, 25, 30]], [0.6], [0], masks=True)
    left.pred_keypoints, right.pred_keypoints = torch.zeros(0, 1, 3), torch.ones(1, 1, 3)
    merged = merge([left, right], PARTS, (100, 180))
    assert isinstance(merged.pred_masks, PackedMasks)
    (mask,) = merged.pred_masks.dense()
    assert mask.shape == (100, 180) and mask[10:30, 85:105].all() and mask.sum() == 400
    assert merged.pred_keypoints.tolist() == [[[81, 1, 1]]]


SIDE, NUMBER, SMALLEST = 4000, 300, 12  # pixels, objects, pixels after resizing


class StandIn(torch.nn.Module):
    """A detector that finds bright squares of at least SMALLEST pixels in what it is given."""

    def __init__(self):
        super().__init__()
        self.backbone = torch.nn.Identity()
        self.backbone.size_divisibility = 32

    def forward(self, inputs):
        return [{"instances": self.detect(one)} for one in inputs]

    def detect(self, one):
        import cv2

        bright = (one["image"].numpy().max(axis=0) > 127).astype(np.uint8)
        height, width = bright.shape
        stats = cv2.connectedComponentsWithStats(bright)[2][1:]
        boxes = [[x, y, x + w, y + h] for x, y, w, h, _ in stats if min(w, h) >= SMALLEST]
        result = found(boxes, [0.9] * len(boxes), [0] * len(boxes), size=(height, width))
        result.pred_boxes.scale(one["width"] / width, one["height"] / height)
        return Instances((one["height"], one["width"]), **result.get_fields())


@pytest.fixture(scope="module")
def large():
    """An image of 4,000 x 4,000 pixels with 300 squares of 16 to 28 pixels, and their boxes."""
    rng = np.random.default_rng(0)
    pixels, boxes = np.zeros((SIDE, SIDE, 3), np.uint8), []
    for cell in rng.choice(50 * 50, NUMBER, replace=False):  # of 80 x 80 pixels
        size = int(rng.integers(16, 29))
        x, y = (int(v) * 80 + int(rng.integers(4, 48)) for v in (cell % 50, cell // 50))
        pixels[y : y + size, x : x + size] = 255
        boxes.append([x, y, x + size, y + size])
    return pixels, np.array(boxes)


def recall(prediction, boxes):
    from supervision import box_iou_batch

    overlap = box_iou_batch(boxes.astype(float), prediction.boxes.astype(float))
    return (overlap > 0.5).any(axis=1).mean()


def test_small_objects_are_found_in_slices(large, monkeypatch, tmp_path):
    from resnest_d2.inference import Predictor, predictor

    pixels, boxes = large
    monkeypatch.setattr(predictor, "build_trained", lambda cfg: StandIn())
    config = "quick_schedules/faster_rcnn_ResNeSt_14_FPN_quick.yaml"
    sizes = ["INPUT.MIN_SIZE_TEST", 800, "INPUT.MAX_SIZE_TEST", 1333]
    sizes += ["DATASETS.CLASSES", ["square"], "MODEL.ROI_HEADS.NUM_CLASSES", 1]
    options = {"backend": "plain", "device": "cpu", "opts": sizes}
    whole = Predictor(config, **options)(pixels, channels="RGB")
    sliced = Predictor(config, slice_size=640, overlap=0.2, **options)(pixels, channels="RGB")
    print(f"recall of {NUMBER}: {recall(whole, boxes):.3f} whole, {recall(sliced, boxes):.3f}")
    assert recall(whole, boxes) < 0.05 and recall(sliced, boxes) == 1
    assert len(sliced) == NUMBER  # none twice
    best = Predictor(config, slice_size=640, max_detections=50, **options)
    assert len(best(pixels, channels="RGB")) == 50
