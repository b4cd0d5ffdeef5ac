"""Conversion of checkpoints between layouts. Tensors are renamed, never changed.

Names are converted to this project's names, which are detectron2's, and from those to the target. A
checkpoint of a bare backbone stays a bare backbone.
"""

import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

import torch

from resnest_d2.errors import UserError
from resnest_d2.files import make_folder, whole_file
from resnest_d2.modeling import ARCHS, ResNeSt
from resnest_d2.outputs import require_new

from .layouts import Layout, get_layout, recognise, translate
from .reading import find_weights, read_checkpoint

COUNTER = "num_batches_tracked"  # not used by any norm here, and absent from many files


class Conversion(NamedTuple):
    """Result of a conversion.

    ``renamed`` is the number of tensors with another name than before; ``unused`` are names that
    the target does not use; ``missing`` are names of a backbone of ``depth`` that the file lacks.
    """

    weights: dict[str, torch.Tensor]
    source: str
    target: str
    depth: int
    renamed: int
    unused: tuple[str, ...]
    missing: tuple[str, ...]

    @property
    def bare(self) -> bool:
        """Whether the weights are only a backbone, and not part of a detector."""
        return not any(name.startswith("backbone.") for name in self.weights)

    def __str__(self) -> str:
        def listed(names: tuple[str, ...]) -> str:
            return f" ({some(names)})" if names else ""

        return (
            f"ResNeSt-{self.depth} from {self.source} layout to {self.target}: "
            f"{len(self.weights)} tensors, {self.renamed} renamed, "
            f"{len(self.unused)} unused{listed(self.unused)}, "
            f"{len(self.missing)} missing{listed(self.missing)}."
        )


def some(names: Iterable[str], number: int = 5) -> str:
    """First names of a list, for a message."""
    names = list(names)
    return ", ".join(names[:number]) + (", ..." if len(names) > number else "")


def convert(
    weights: Mapping[str, torch.Tensor], *, to: str = "detectron2", origin: str = "the checkpoint"
) -> Conversion:
    """Renames the tensors of a ResNeSt detector or backbone.

    Args:
        weights: weights in any layout of :data:`LAYOUTS`, without wrappers.
        to: name of the target layout.
        origin: name of the weights in messages.

    Raises:
        UserError: the layout is unknown, the weights are of a plain ResNet or of no published
            depth, or a layout has no rule for a name.
    """
    target = get_layout(to)
    found = recognise(weights)
    if found is None:
        raise UserError(f"{origin} {_what_it_is(weights)}")
    source, prefix = found
    unused = [n for n in weights if any(re.fullmatch(d, n) for d in source.dropped)]
    kept = [name for name in weights if name not in set(unused)]
    named = _to_ours(kept, source, prefix)
    if unknown := [name for name, own in named.items() if own is None]:
        raise UserError(
            f"{origin} is in {source.name} layout, but {len(unknown)} of its {len(weights)} names "
            f"do not belong to it: {some(unknown)}."
        )
    ours = {name: own for name, own in named.items() if own is not None}
    bare = not any(own.startswith("backbone.") for own in ours.values())
    depth, missing = _check_backbone(ours.values(), origin)
    theirs = {name: _from_ours(own, target, bare=bare) for name, own in ours.items()}
    if not target.detector and target.backbone:  # a layout of backbones: drop the heads
        left = [n for n, t in theirs.items() if t is None and not _in_backbone(ours[n])]
        unused += left
        theirs = {name: t for name, t in theirs.items() if name not in set(left)}
    if unknown := [ours[name] for name, t in theirs.items() if t is None]:
        raise UserError(
            f"{origin} cannot be written in {target.name} layout, which has no names for "
            f"{len(unknown)} of its tensors: {some(unknown)}."
        )
    return Conversion(
        weights={t: weights[name] for name, t in theirs.items() if t is not None},
        source=source.name,
        target=target.name,
        depth=depth,
        renamed=sum(name != t for name, t in theirs.items()),
        unused=tuple(unused),
        missing=tuple(missing),
    )


def _to_ours(names: Iterable[str], source: Layout, prefix: str) -> dict[str, str | None]:
    own_prefix = "backbone.bottom_up." if source.detector and prefix else ""
    result: dict[str, str | None] = {}
    for name in names:
        if not source.backbone:
            result[name] = name
            continue
        own = None
        if name.startswith(prefix):
            own = translate(name.removeprefix(prefix), source.backbone)
        result[name] = own_prefix + own if own else translate(name, source.detector)
    return result


def _in_backbone(own: str) -> bool:
    return re.match(r"(backbone\.(bottom_up\.)?)?(stem|res\d|linear)\.", own) is not None


def _from_ours(own: str, target: Layout, *, bare: bool) -> str | None:
    if not target.backbone:
        return own
    if _in_backbone(own):
        inner = re.sub(r"^backbone\.(bottom_up\.)?", "", own)
        name = translate(inner, target.backbone, reverse=True)
        return name and (name if bare else target.prefix + name)
    return translate(own, target.detector, reverse=True)


def blocks_of(names: Iterable[str]) -> tuple[int, ...]:
    """Number of blocks in res2 .. res5, from names in our layout; 0 for a missing stage."""
    last = [0, 0, 0, 0]
    for name in names:
        if match := re.match(r"(?:backbone\.(?:bottom_up\.)?)?res([2-5])\.(\d+)\.", name):
            stage = int(match[1]) - 2
            last[stage] = max(last[stage], int(match[2]) + 1)
    return tuple(last)


def has_attention(names: Iterable[str]) -> bool:
    """Whether names in our layout are of a ResNeSt and not of a plain ResNet."""
    return any(".conv2.fc1." in name for name in names)


def depth_of(names: Iterable[str]) -> int | None:
    """Depth of a ResNeSt from its numbers of blocks; None if no published depth has them."""
    blocks = blocks_of(names)
    return next((depth for depth, arch in ARCHS.items() if arch.blocks == blocks), None)


def _check_backbone(own_names: Iterable[str], origin: str) -> tuple[int, list[str]]:
    """Depth of a backbone, and the names that it lacks."""
    own_names = list(own_names)
    present = {re.sub(r"^backbone\.(bottom_up\.)?", "", n) for n in own_names if _in_backbone(n)}
    if not has_attention(present):
        raise UserError(f"{origin} is a plain ResNet: its blocks have no split attention.")
    depth = depth_of(own_names)
    if depth is None:
        raise UserError(
            f"{origin} has {blocks_of(own_names)} blocks in its stages, which no ResNeSt has; the "
            f"depths are {', '.join(f'{d} {a.blocks}' for d, a in ARCHS.items())}. Is the file "
            "incomplete?"
        )
    leaves = {name.rsplit(".", 1)[-1] for name in present}
    with torch.device("meta"):
        expected = ResNeSt(depth).state_dict()
    wanted = (n for n in expected if n.rsplit(".", 1)[-1] in leaves and COUNTER not in n)
    return depth, [name for name in wanted if name not in present]


def _what_it_is(weights: Mapping[str, torch.Tensor]) -> str:
    plain = any(re.fullmatch(r"(backbone\.)?(stem\.)?conv1\.weight", name) for name in weights)
    if plain:
        return "is a plain ResNet (one 7x7 convolution in its stem), not a ResNeSt."
    return (
        "is no ResNeSt in a layout known here (detectron2's, mmdetection's, the authors' or "
        f"timm's); it has names like {some(weights, 3)}."
    )


def write_checkpoint(conversion: Conversion, path: str | os.PathLike) -> None:
    """Writes converted weights to a file, atomically.

    A bare backbone in detectron2's layout is marked so that detectron2 looks for its place in a
    detector. A path that ends in .safetensors gets that format.

    Raises:
        WriteError: the file cannot be written.
    """
    path = Path(path)
    make_folder(path.parent)
    weights = conversion.weights
    with whole_file(path) as file:
        if path.suffix == ".safetensors":
            from safetensors.torch import save

            file.write(save({name: value.contiguous() for name, value in weights.items()}))
            return
        content: dict = weights
        if conversion.target == "mmdetection":
            content = {"meta": {}, "state_dict": weights}
        elif conversion.target == "detectron2":
            content = {"model": weights, "__author__": "resnest_d2"}
            if conversion.bare:
                content["matching_heuristics"] = True
        torch.save(content, file)


def convert_file(
    source: str | os.PathLike,
    target: str | os.PathLike,
    *,
    to: str = "detectron2",
    overwrite: bool = False,
) -> Conversion:
    """Converts a checkpoint file, see :func:`convert`.

    Args:
        source: checkpoint to read.
        target: checkpoint to write.
        to: name of the target layout.
        overwrite: replace ``target`` if it exists.

    Raises:
        MissingFileError, UserError: see :func:`read_checkpoint`, :func:`find_weights` and
            :func:`convert`; or ``target`` is ``source``.
        OutputExistsError: ``target`` exists.
        WriteError: ``target`` cannot be written.
    """
    require_new([target], overwrite=overwrite, sources=[source])
    weights = find_weights(read_checkpoint(source), source)
    conversion = convert(weights, to=to, origin=os.fspath(source))
    write_checkpoint(conversion, target)
    return conversion
