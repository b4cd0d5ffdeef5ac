"""A detector with made outputs, to measure all of a prediction but the network.

Shapes: N detections.
"""

import torch
from detectron2.modeling.postprocessing import detector_postprocess
from detectron2.modeling.roi_heads.fast_rcnn import fast_rcnn_inference
from torch import nn

CLASSES = 80
MASK_SIDE = 28  # of a mask head's output


class MadeDetections(nn.Module):
    """A detector whose network is replaced by made outputs: scores, boxes and masks of N objects.

    Their sides are those of small and middle objects, and their masks ellipses.
    """

    def __init__(self, number: int):
        """
        Args:
            number: N.
        """
        super().__init__()
        self.backbone = nn.Module()
        self.backbone.size_divisibility = 32
        random = torch.Generator().manual_seed(0)
        sides = torch.exp(torch.rand(number, 2, generator=random) * 2.3 + 2.3) / 640  # 10 to 100
        corners = torch.rand(number, 2, generator=random) * (1 - sides)
        self.boxes = torch.cat([corners, corners + sides], dim=1)  # shares of the image's sides
        kinds = torch.randint(CLASSES, (number,), generator=random)
        self.scores = torch.zeros(number, CLASSES + 1)
        best = 0.3 + 0.7 * torch.rand(number, generator=random)
        self.scores[torch.arange(number), kinds] = best
        steps = torch.linspace(-1, 1, MASK_SIDE)
        disc = 1.0 - 0.5 * (steps**2 + steps[:, None] ** 2)  # 0.5 on its edge
        self.masks = disc.expand(number, 1, MASK_SIDE, MASK_SIDE)

    def forward(self, inputs: list[dict]) -> list[dict]:
        """Detections as of detectron2's GeneralizedRCNN."""
        (one,) = inputs
        height, width = one["image"].shape[1:]
        boxes = self.boxes * torch.tensor([width, height] * 2)
        number = len(boxes)
        (found,), _ = fast_rcnn_inference(
            [boxes], [self.scores], [(height, width)], 0.05, 1.0, number
        )
        found.pred_masks = self.masks
        return [{"instances": detector_postprocess(found, one["height"], one["width"])}]
