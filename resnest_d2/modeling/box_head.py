"""detectron2's convolutional box head, which may compute its convolutions again in backward."""

import torch
from detectron2.config import CfgNode, configurable
from detectron2.layers import ShapeSpec
from detectron2.modeling.roi_heads import ROI_BOX_HEAD_REGISTRY, FastRCNNConvFCHead

from resnest_d2.config import with_defaults

from .activation_checkpoint import check_activation_checkpoint, gains, recompute, wants_recomputing


@ROI_BOX_HEAD_REGISTRY.register()
class CheckpointConvFCHead(FastRCNNConvFCHead):
    """The head that follows MODEL.RESNETS.ACTIVATION_CHECKPOINT as the blocks of the backbone do.

    Of a Faster R-CNN with four convolutions on 512 regions an image, it keeps a third of what
    a training step keeps; its parameters are those of detectron2's.
    """

    @configurable
    def __init__(self, input_shape: ShapeSpec, *, activation_checkpoint: str = "none", **kwargs):
        """As detectron2's, and:

        Args:
            input_shape: of the pooled regions.
            activation_checkpoint: what of the convolutions the backward pass computes again, see
                :func:`resnest_d2.modeling.activation_checkpoint.recompute`. "light" leaves
                convolutions without trained norms alone, as it has nothing to gain there.
            **kwargs: of detectron2's head.
        """
        super().__init__(input_shape, **kwargs)
        norm = kwargs.get("conv_norm", "")
        if not self.conv_norm_relus or not gains(activation_checkpoint, norm=norm):
            activation_checkpoint = "none"
        check_activation_checkpoint(activation_checkpoint, norm=norm)
        self.activation_checkpoint = activation_checkpoint

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: ShapeSpec) -> dict:
        """MODEL.ROI_BOX_HEAD, and MODEL.RESNETS.ACTIVATION_CHECKPOINT."""
        cfg = with_defaults(cfg)
        arguments = super().from_config(cfg, input_shape)
        return {**arguments, "activation_checkpoint": cfg.MODEL.RESNETS.ACTIVATION_CHECKPOINT}

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(R, C, H, W) to (R, D)."""
        if not torch.jit.is_scripting():
            if self.activation_checkpoint != "none" and wants_recomputing(self, x):
                x = recompute(self, self.convolve, x, mode=self.activation_checkpoint)
                for layer in list(self)[len(self.conv_norm_relus) :]:
                    x = layer(x)
                return x
        for layer in self:
            x = layer(x)
        return x

    def convolve(self, x: torch.Tensor) -> torch.Tensor:
        """The convolutions alone."""
        for conv in self.conv_norm_relus:
            x = conv(x)
        return x
