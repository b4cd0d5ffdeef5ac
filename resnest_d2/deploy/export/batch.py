"""A detector for several images of one size, in a graph that takes any number of them.

detectron2 chooses proposals and detections image by image, and a trace would fix how many images
there are. Here the heads see one image with the regions of all of them; the number of the image
that a region is in is kept beside.

Shapes: N images, R regions, L levels of the pyramid, A anchors of a level, K classes.
"""

from types import SimpleNamespace
from typing import Any

import torch
import torchvision
from detectron2.layers import shapes_to_tensor
from detectron2.modeling import GeneralizedRCNN
from detectron2.modeling.poolers import ROIPooler, assign_boxes_to_levels
from detectron2.structures import Boxes, ImageList, Instances
from torch import nn

from resnest_d2.compat.selection import selecting_by


class BatchInference:
    """Detects the objects of all images of a batch, without a loop over the images."""

    def __init__(self, model: GeneralizedRCNN):
        """
        Args:
            model: in eval mode, with detectron2's poolers, which are replaced.
        """
        self.batch = SimpleNamespace(size=0, images=None)  # N; of each region, (R,)
        for name, module in list(model.roi_heads.named_children()):
            if isinstance(module, ROIPooler):
                setattr(model.roi_heads, name, _BatchPooler(module, self.batch))

    def __call__(
        self, model: GeneralizedRCNN, images: torch.Tensor, threshold: torch.Tensor
    ) -> tuple[torch.Tensor, ...]:
        """Returns the detections of all images, those with higher scores first.

        Args:
            model: that of the constructor.
            images: (N, 3, H, W), float32, 0 to 255, in the model's channel order.
            threshold: lower limit of the scores, float32 scalar.

        Returns:
            As :func:`resnest_d2.deploy.export.tracing.detect`, and the number of each detection's
            image, (R,), int64.
        """
        set_threshold(model, threshold)
        self.batch.size = images.shape[0]
        pixels = (images - model.pixel_mean) / model.pixel_std
        size = shapes_to_tensor(list(images.shape[-2:]))
        padding = -size % max(model.backbone.size_divisibility, 1)
        x = nn.functional.pad(pixels, [0, padding[1], 0, padding[0]])
        together = ImageList(x, [size])
        features = model.backbone(x)
        with selecting_by(self._choose_proposals, self._choose_detections):
            proposals, _ = model.proposal_generator(together, features, None)
            (found,), _ = model.roi_heads(together, features, proposals, None)
        outputs = [found.pred_boxes.tensor, found.scores, found.pred_classes]
        if found.has("pred_masks"):
            outputs.append(found.pred_masks[:, 0])
        return (*outputs, self.batch.images)

    def _choose_proposals(
        self,
        proposals: list[torch.Tensor],  # L of (N, A, 4)
        logits: list[torch.Tensor],  # L of (N, A)
        sizes: list,
        nms_thresh: float,
        pre_nms_topk: int,
        post_nms_topk: int,
        min_box_size: float,
        training: bool,
    ) -> list[Instances]:
        """The best proposals of each image, as detectron2's ``find_top_rpn_proposals``."""
        boxes, scores, levels = [], [], []
        for level, (all_boxes, all_scores) in enumerate(zip(proposals, logits, strict=True)):
            number: Any = torch.as_tensor(all_scores.shape[1]).clamp(max=pre_nms_topk)
            best, places = all_scores.topk(number, dim=1)
            boxes.append(all_boxes.gather(1, places[:, :, None].expand(-1, -1, 4)))
            scores.append(best)
            levels.append(torch.full_like(places, level))
        group = torch.cat(levels, 1)
        images = torch.arange(self.batch.size)[:, None].expand_as(group).flatten()
        found = Boxes(torch.cat(boxes, 1).flatten(0, 1))
        found.clip(sizes[0])
        kept = found.nonempty(threshold=min_box_size)
        values = (found.tensor, torch.cat(scores, 1).flatten(), group.flatten(), images)
        corners, score, group, images = (value[kept] for value in values)
        kept = self._best(corners, score, group, images, iou=nms_thresh, limit=post_nms_topk)
        self.batch.images = images[kept]
        return [
            Instances(sizes[0], proposal_boxes=Boxes(corners[kept]), objectness_logits=score[kept])
        ]

    def _choose_detections(
        self,
        boxes: list[torch.Tensor],  # of (R, 4 K), or (R, 4) for all classes
        scores: list[torch.Tensor],  # of (R, K + 1)
        sizes: list,
        score_thresh: torch.Tensor,
        nms_thresh: float,
        topk_per_image: int,
    ) -> tuple[list[Instances], list[torch.Tensor]]:
        """The best detections of each image, as detectron2's ``fast_rcnn_inference``."""
        of_classes = boxes[0].shape[1] > 4
        clipped = Boxes(boxes[0].reshape(-1, 4))
        clipped.clip(sizes[0])
        corners = clipped.tensor.reshape(-1, boxes[0].shape[1] // 4, 4)
        score = scores[0][:, :-1]
        rows, classes = (score > score_thresh).nonzero().unbind(1)
        corners = corners[rows, classes if of_classes else torch.zeros_like(classes)]
        score, images = score[rows, classes], self.batch.images[rows]
        kept = self._best(corners, score, classes, images, iou=nms_thresh, limit=topk_per_image)
        self.batch.images = images[kept]
        found = Instances(sizes[0], pred_boxes=Boxes(corners[kept]), scores=score[kept])
        found.pred_classes = classes[kept]
        return [found], [rows[kept]]

    def _best(
        self,
        boxes: torch.Tensor,
        scores: torch.Tensor,
        groups: torch.Tensor,
        images: torch.Tensor,
        *,
        iou: float,
        limit: int,
    ) -> torch.Tensor:
        """Non-maximum suppression within each group of each image, and the best of each image."""
        far = torch.cat((boxes.flatten(), boxes.new_zeros(1))).max() + 1
        shift = torch.stack((groups, images), 1).to(boxes) * far  # classes across, images down
        kept = torchvision.ops.nms(boxes + torch.cat((shift, shift), 1), scores, iou)
        if limit < 0:
            return kept
        mine = images[kept][:, None]  # (R, 1)
        ranks = (mine == torch.arange(self.batch.size)).long().cumsum(0).gather(1, mine)[:, 0]
        return kept[ranks <= limit]


class _BatchPooler(nn.Module):
    """A pooler for regions in one list, whose images are those of the batch."""

    def __init__(self, pooler: ROIPooler, batch: SimpleNamespace):
        super().__init__()
        self.pooler, self.batch = pooler, batch

    def forward(self, x: list[torch.Tensor], box_lists: list[Boxes]) -> torch.Tensor:
        """See :class:`ROIPooler`."""
        pooler = self.pooler
        corners = box_lists[0].tensor
        regions = torch.cat((self.batch.images[:, None].to(corners), corners), 1)
        if len(x) == 1:
            return pooler.level_poolers[0](x[0], regions)
        levels = assign_boxes_to_levels(
            box_lists,
            pooler.min_level,
            pooler.max_level,
            pooler.canonical_box_size,
            pooler.canonical_level,
        )
        shape = (regions.shape[0], x[0].shape[1], *pooler.output_size)
        pooled = x[0].new_zeros(shape)
        for level, (features, align) in enumerate(zip(x, pooler.level_poolers, strict=True)):
            here = (levels == level).nonzero()[:, 0]
            pooled = pooled.index_put((here,), align(features, regions[here]))
        return pooled


def set_threshold(model: GeneralizedRCNN, threshold: torch.Tensor) -> None:
    """Replaces the score threshold of a detector."""
    predictors: Any = model.roi_heads.box_predictor
    for predictor in predictors if isinstance(predictors, nn.ModuleList) else [predictors]:
        predictor.test_score_thresh = threshold
