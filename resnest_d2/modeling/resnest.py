"""ResNeSt as a detectron2 backbone.

Paper: https://arxiv.org/abs/2004.08955. Stages, outputs and freezing are inherited from
detectron2's ResNet; stem, block and table of depths are from this package.
"""

import logging
from collections.abc import Sequence
from typing import Any

from detectron2.config import CfgNode, configurable
from detectron2.layers import ShapeSpec
from detectron2.modeling import BACKBONE_REGISTRY, ResNet
from detectron2.modeling.backbone.resnet import BasicStem

from resnest_d2.config import check_backbone, resolve_backbone, with_defaults
from resnest_d2.layers import adapt_sync_norms

from .archs import get_arch
from .block import ResNeStBottleneck
from .stem import DeepStem


class ResNeSt(ResNet):
    """Split-attention network with outputs ``stem``, ``res2`` .. ``res5`` at strides 4 .. 32."""

    @configurable
    def __init__(
        self,
        depth: int = 50,
        *,
        in_channels: int = 3,
        deep_stem: bool = True,
        stem_channels: int | None = None,
        res2_channels: int = 256,
        width: int = 64,
        num_groups: int = 1,
        res5_dilation: int = 1,
        deform_on_per_stage: Sequence[bool] = (False, False, False, False),
        out_features: Sequence[str] = ("res2", "res3", "res4", "res5"),
        num_classes: int | None = None,
        freeze_at: int = 0,
        norm: str = "BN",
        **block: Any,
    ):
        """
        Args:
            depth: one of :data:`resnest_d2.modeling.ARCHS`.
            in_channels: number of channels of the image.
            deep_stem: use three 3x3 convolutions instead of one 7x7.
            stem_channels: output channels of the stem; None for the published number.
            res2_channels: output channels of res2; each later stage doubles them.
            width: width of a group of res2's 3x3 convolution; each later stage doubles it.
            num_groups: cardinality.
            res5_dilation: 2 keeps res5 at stride 16, with dilated convolutions.
            deform_on_per_stage: which of res2..res5 have deformable 3x3 convolutions.
            out_features: names of the outputs.
            num_classes: number of classes of a classifier with the output ``linear``; None for no
                classifier.
            freeze_at: 0 .. 5, see :meth:`detectron2.modeling.ResNet.freeze`.
            norm: name of the norms, as in :func:`detectron2.layers.get_norm`; "" for none.
            **block: other arguments of :class:`ResNeStBottleneck`.

        Raises:
            UserError: the depth is unknown, or a width is not divisible by the groups.
        """
        arch = get_arch(depth)
        stem_channels = stem_channels or arch.stem_channels
        stem_class = DeepStem if deep_stem else BasicStem
        stem = stem_class(in_channels=in_channels, out_channels=stem_channels, norm=norm)
        stages = []
        stage_in = stem_channels
        for i, num_blocks in enumerate(arch.blocks):
            dilated = i == 3 and res5_dilation == 2
            first_stride = 1 if i == 0 or dilated else 2
            stage_out = res2_channels * 2**i
            stages.append(
                self.make_stage(
                    ResNeStBottleneck,
                    num_blocks,
                    in_channels=stage_in,
                    out_channels=stage_out,
                    stride_per_block=[first_stride] + [1] * (num_blocks - 1),
                    bottleneck_channels=width * 2**i * num_groups,
                    num_groups=num_groups,
                    dilation=2 if dilated else 1,
                    deformable=bool(deform_on_per_stage[i]),
                    norm=norm,
                    **block,
                )
            )
            stage_in = stage_out
        super().__init__(
            stem,
            stages,
            num_classes=num_classes,
            out_features=list(out_features),
            freeze_at=freeze_at,
        )

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: ShapeSpec) -> dict:
        """Arguments from MODEL.RESNETS and MODEL.BACKBONE.FREEZE_AT."""
        check_backbone(cfg)
        cfg = resolve_backbone(with_defaults(cfg))
        keys = cfg.MODEL.RESNETS
        published = get_arch(keys.DEPTH).stem_channels
        if keys.DEEP_STEM and published != keys.STEM_OUT_CHANNELS:
            logging.getLogger(__name__).warning(
                f"MODEL.RESNETS.STEM_OUT_CHANNELS is {keys.STEM_OUT_CHANNELS}, but the published "
                f"ResNeSt-{keys.DEPTH} has {published}: its checkpoints will not fit the stem."
            )
        return {
            "depth": keys.DEPTH,
            "in_channels": input_shape.channels,
            "deep_stem": keys.DEEP_STEM,
            "stem_channels": keys.STEM_OUT_CHANNELS,
            "res2_channels": keys.RES2_OUT_CHANNELS,
            "width": keys.WIDTH_PER_GROUP * keys.BOTTLENECK_WIDTH // 64,
            "num_groups": keys.NUM_GROUPS,
            "res5_dilation": keys.RES5_DILATION,
            "deform_on_per_stage": keys.DEFORM_ON_PER_STAGE,
            "out_features": keys.OUT_FEATURES,
            "freeze_at": cfg.MODEL.BACKBONE.FREEZE_AT,
            "norm": keys.NORM,
            "activation_checkpoint": keys.ACTIVATION_CHECKPOINT,
            "radix": keys.RADIX,
            "avd": keys.AVD,
            "avd_first": keys.AVD_FIRST,
            "avg_down": keys.AVG_DOWN,
            "stride_in_1x1": keys.STRIDE_IN_1X1,
            "deform_modulated": keys.DEFORM_MODULATED,
            "deform_num_groups": keys.DEFORM_NUM_GROUPS,
        }


@BACKBONE_REGISTRY.register()
def build_resnest_backbone(cfg: CfgNode, input_shape: ShapeSpec) -> ResNeSt:
    """ResNeSt without FPN, from a detectron2 config."""
    net = ResNeSt(cfg, input_shape)
    adapt_sync_norms(net)
    return net
