"""mmdetection's assignment of anchors and proposals to objects.

detectron2 labels an object's best anchors positive, but assigns them to the object that they
overlap most. mmdetection assigns them to the object itself. Source: mmdetection 3.3, MaxIoUAssigner
and AnchorHead.

Shapes: M objects, N boxes (anchors or proposals) of one image.
"""

import torch
from detectron2.modeling.matcher import Matcher
from detectron2.structures import Boxes, Instances


class BestMatchesMatcher:
    """Matcher that assigns the boxes with the highest overlap of an object to that object.

    If several boxes have the same overlap, all are assigned. If several objects claim a box, it is
    assigned to the last one. Such boxes are positive even if they overlap another object more.
    """

    def __init__(self, matcher: Matcher, *, floor: float, objects_last: bool = False):
        """
        Args:
            matcher: matcher that assigns all boxes first, without low-quality matches.
            floor: lowest overlap of these matches.
            objects_last: whether the last M boxes are the objects themselves. They are assigned to
                their objects, and are not considered as best boxes.
        """
        self.matcher = matcher
        self.floor = floor
        self.objects_last = objects_last

    def __call__(self, overlaps: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Assigns boxes to objects.

        Args:
            overlaps: IoU of each object with each box, (M, N).

        Returns:
            The index of each box's object, (N,) int64, and its label, (N,) int8: 1 positive,
            0 negative, -1 ignored.
        """
        matches, labels = self.matcher(overlaps)
        objects, boxes = overlaps.shape
        if self.objects_last:
            boxes -= objects
            matches[boxes:] = torch.arange(objects, device=matches.device)
            labels[boxes:] = 1
        if not objects or not boxes:
            return matches, labels
        overlaps = overlaps[:, :boxes]
        best = overlaps.max(dim=1, keepdim=True).values  # (M, 1)
        claims = (overlaps == best) & (best >= self.floor)  # (M, N)
        claimants, claimed = claims.nonzero().unbind(dim=1)
        owner = torch.full_like(matches[:boxes], -1)  # the last claimant, -1 without one
        owner.scatter_reduce_(0, claimed, claimants, reduce="amax")
        taken = (owner >= 0).nonzero().squeeze(1)
        matches[taken] = owner[taken]
        labels[taken] = 1
        return matches, labels


def outside_padding(
    anchors: Boxes, image_size: tuple[int, int], *, divisor: int = 32
) -> torch.Tensor:
    """Finds the anchors that mmdetection trains in a batch of images of several sizes.

    Args:
        anchors: N anchors of the whole batch's feature maps, with offset 0.
        image_size: height and width of the image before padding, in pixels.
        divisor: without a batch, the image would be padded to a multiple of this.

    Returns:
        (N,) bool, False for anchors whose cell exists only because another image is larger.
    """
    height, width = (-(-side // divisor) * divisor for side in image_size)
    # Centers are multiples of the stride up to rounding, which is less than half a pixel.
    x, y = anchors.get_centers().unbind(dim=1)
    return (x < width - 0.5) & (y < height - 0.5)


def is_truth(proposals: Instances) -> torch.Tensor:
    """(R,): which proposals are the ground-truth boxes themselves."""
    boxes = proposals.proposal_boxes.tensor
    if not proposals.has("gt_boxes"):  # an image without objects
        return boxes.new_zeros(len(boxes), dtype=torch.bool)
    return (boxes == proposals.gt_boxes.tensor).all(1)
