"""Detections compared as sets: rounding may swap two of one score, and drop one at a threshold."""

from detectron2.structures import Instances, pairwise_iou


def assert_same_detections(
    found: Instances, expected: Instances, *, score_tolerance: float = 1e-4
) -> None:
    """Same class, box IoU over 0.99, score as close as said, mask IoU over 0.99.

    One in fifty may lack its partner.
    """
    same = pairwise_iou(expected.pred_boxes, found.pred_boxes) > 0.99
    same &= expected.pred_classes[:, None] == found.pred_classes[None]
    same &= (expected.scores[:, None] - found.scores[None]).abs() < score_tolerance
    allowed = len(expected) // 50
    assert abs(len(found) - len(expected)) <= allowed
    assert (~same.any(1)).sum() <= allowed and (~same.any(0)).sum() <= allowed
    assert found.has("pred_masks") == expected.has("pred_masks")
    if found.has("pred_masks"):
        for mask, partners in zip(expected.pred_masks, same, strict=True):
            if partners.any():
                ours = found.pred_masks[partners]
                union = (ours | mask).sum((1, 2)).clamp(min=1)
                assert ((ours & mask).sum((1, 2)) / union).max() > 0.99 or not mask.any()
