"""Table of the published depths.

Paper: https://arxiv.org/abs/2004.08955, Tab. 1; 14 and 26 are from timm and GluonCV, 152 follows
ResNet. The stages have widths of 64, 128, 256, 512 and strides of 1, 2, 2, 2.
"""

from typing import NamedTuple

from resnest_d2.errors import UserError


class Arch(NamedTuple):
    """Number of blocks in res2..res5, and output channels of the deep stem."""

    blocks: tuple[int, int, int, int]
    stem_channels: int


ARCHS: dict[int, Arch] = {
    14: Arch((1, 1, 1, 1), 64),
    26: Arch((2, 2, 2, 2), 64),
    50: Arch((3, 4, 6, 3), 64),
    101: Arch((3, 4, 23, 3), 128),
    152: Arch((3, 8, 36, 3), 128),
    200: Arch((3, 24, 36, 3), 128),
    269: Arch((3, 30, 48, 8), 128),
}


def get_arch(depth: int) -> Arch:
    """Looks up a depth in :data:`ARCHS`.

    Raises:
        UserError: there is no such depth.
    """
    if depth not in ARCHS:
        choices = ", ".join(map(str, ARCHS))
        raise UserError(f"MODEL.RESNETS.DEPTH is {depth}; ResNeSt has {choices}.")
    return ARCHS[depth]
