"""detectron2's convolutional box head with activation checkpointing."""

from typing import Any

import torch
from detectron2.config import CfgNode, configurable
from detectron2.layers import ShapeSpec
from detectron2.modeling.roi_heads import ROI_BOX_HEAD_REGISTRY, FastRCNNConvFCHead

from resnest_d2.config import with_defaults

from .activation_checkpoint import check_activation_checkpoint, gains, recompute, wants_recomputing


@ROI_BOX_HEAD_REGISTRY.register()
class CheckpointConvFCHead(FastRCNNConvFCHead):
    """FastRCNNConvFCHead that follows MODEL.RESNETS.ACTIVATION_CHECKPOINT.

    In a Faster R-CNN with four convolutions on 512 regions per image, this head accounts for a
    third of the activations of a training step. Its parameters are those of detectron2's head.
    """

    @configurable
    def __init__(
        self, input_shape: ShapeSpec, *, activation_checkpoint: str = "none", **kwargs: Any
    ):
        """As detectron2's, and:

        Args:
            input_shape: shape of the pooled regions.
            activation_checkpoint: how the backward pass recomputes the convolutions, see
                :func:`resnest_d2.modeling.activation_checkpoint.recompute`. "light" has no effect
                on convolutions without trained norms, where it would save nothing.
            **kwargs: arguments of :class:`FastRCNNConvFCHead`.
        """
        super().__init__(input_shape, **kwargs)
        norm = kwargs.get("conv_norm", "")
        if not self.conv_norm_relus or not gains(activation_checkpoint, norm=norm):
            activation_checkpoint = "none"
        check_activation_checkpoint(activation_checkpoint, norm=norm)
        self.activation_checkpoint = activation_checkpoint

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: ShapeSpec) -> dict:
        """Arguments from MODEL.ROI_BOX_HEAD and MODEL.RESNETS.ACTIVATION_CHECKPOINT."""
        cfg = with_defaults(cfg)
        arguments = super().from_config(cfg, input_shape)
        return {**arguments, "activation_checkpoint": cfg.MODEL.RESNETS.ACTIVATION_CHECKPOINT}

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Maps (R, C, H, W) to (R, D)."""
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
        """Computes only the convolutions."""
        for conv in self.conv_norm_relus:
            x = conv(x)
        return x
