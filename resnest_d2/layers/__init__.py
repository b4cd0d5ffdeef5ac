"""Operations of ResNeSt. They do not depend on configs."""

from .attention import weighted_sum
from .deform_conv import DeformConv2d
from .norm import BATCH_NORMS, adapt_sync_norms, get_attention_norm, norm_of_vector
from .split_attention import SplitAttentionConv2d
from .sync_norm import GlooSyncBatchNorm

__all__ = [
    "BATCH_NORMS",
    "DeformConv2d",
    "GlooSyncBatchNorm",
    "SplitAttentionConv2d",
    "adapt_sync_norms",
    "get_attention_norm",
    "norm_of_vector",
    "weighted_sum",
]
