"""Models of other libraries with random weights, if they are installed."""

from torch import nn

from .measure import Skipped

_TIMM = {14: "14d", 26: "26d", 50: "50d", 101: "101e", 200: "200e", 269: "269e"}


def timm_backbone(depth: int) -> nn.Module:
    """timm's ResNeSt with feature maps at strides 2 to 32."""
    import timm

    if depth not in _TIMM:
        raise Skipped(f"has no ResNeSt-{depth}")
    return timm.create_model(f"resnest{_TIMM[depth]}", features_only=True, pretrained=False)


def torchvision_backbone(depth: int) -> nn.Module:
    """torchvision's ResNet with feature maps at strides 4 to 32."""
    import torchvision
    from torchvision.models.feature_extraction import create_feature_extractor

    if depth not in (50, 101, 152):
        raise Skipped(f"has no ResNet-{depth}")
    model = torchvision.models.get_model(f"resnet{depth}", weights=None)
    return create_feature_extractor(model, [f"layer{stage}" for stage in (1, 2, 3, 4)])


def torchvision_detector(
    size: tuple[int, int], *, depth: int, proposals: int, masks: bool
) -> nn.Module:
    """torchvision's R-CNN with ResNet-50-FPN, in eval mode.

    Args:
        size: size of the image, which is not resized.
        depth: depth of the network that it is compared with.
        proposals: number of proposals, without NMS.
        masks: build a Mask R-CNN instead of a Faster R-CNN.

    Raises:
        Skipped: the depth is not 50.
    """
    import torchvision

    if depth != 50:
        raise Skipped(f"has no R-CNN of depth {depth}")
    model = torchvision.models.get_model(
        f"{'mask' if masks else 'faster'}rcnn_resnet50_fpn",
        weights=None,
        weights_backbone=None,
        min_size=min(size),
        max_size=max(size),
        rpn_nms_thresh=1.0,
        rpn_pre_nms_top_n_test=proposals,
        rpn_post_nms_top_n_test=proposals,
    )
    return model.eval()
