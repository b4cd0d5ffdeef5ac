"""Checkpoint layouts: tables of the tensor names of a ResNeSt detector.

A rule is a pair (their name, our name). ``{i}`` stands for a number, ``{i+1}`` on our side for that
number plus one, and ``*`` for a tensor of a layer (weight, bias, statistics). The first matching
rule applies, in both directions. Our names are those of detectron2 and the authors.
"""

import functools
import re
from collections.abc import Iterable
from typing import NamedTuple

from resnest_d2.errors import UserError

_LEAF = "weight|bias|running_mean|running_var|num_batches_tracked"
Rules = tuple[tuple[str, str], ...]


class Layout(NamedTuple):
    """Tensor names of one framework.

    ``prefix`` is the prefix of a detector's backbone; files of a bare backbone have none. ``sign``
    is a regular expression for the stem's first weight, ``dropped`` are those of names that no
    detector needs.
    """

    name: str
    prefix: str
    sign: str
    backbone: Rules
    detector: Rules
    dropped: tuple[str, ...] = ()


_BLOCKS: Rules = (
    ("layer{s}.{b}.bn1.*", "res{s+1}.{b}.conv1.norm.*"),
    ("layer{s}.{b}.bn3.*", "res{s+1}.{b}.conv3.norm.*"),
    ("layer{s}.{b}.downsample.2.*", "res{s+1}.{b}.shortcut.norm.*"),
    ("layer{s}.{b}.downsample.1.*", "res{s+1}.{b}.shortcut.*"),
    ("layer{s}.{b}.conv1.*", "res{s+1}.{b}.conv1.*"),
    ("layer{s}.{b}.conv3.*", "res{s+1}.{b}.conv3.*"),
    *(
        (f"layer{{s}}.{{b}}.conv2.{part}.*", f"res{{s+1}}.{{b}}.conv2.{part}.*")
        for part in ("conv", "bn0", "fc1", "bn1", "fc2")
    ),
)
_TORCH: Rules = (
    ("conv1.1.*", "stem.conv1_1.norm.*"),
    ("conv1.4.*", "stem.conv1_2.norm.*"),
    ("bn1.*", "stem.conv1_3.norm.*"),
    ("conv1.0.*", "stem.conv1_1.*"),
    ("conv1.3.*", "stem.conv1_2.*"),
    ("conv1.6.*", "stem.conv1_3.*"),
    *_BLOCKS,
)
_MMDET: Rules = (
    ("stem.1.*", "stem.conv1_1.norm.*"),
    ("stem.4.*", "stem.conv1_2.norm.*"),
    ("stem.7.*", "stem.conv1_3.norm.*"),
    ("stem.0.*", "stem.conv1_1.*"),
    ("stem.3.*", "stem.conv1_2.*"),
    ("stem.6.*", "stem.conv1_3.*"),
    *_BLOCKS,
)


def _mmdet_heads(stage: str) -> Rules:
    """Rules of one box and one mask head; ``stage`` is "", or ".{s}" in a cascade."""
    box, mask = f"roi_head.bbox_head{stage}", f"roi_head.mask_head{stage}"
    our_box, our_mask = f"roi_heads.box_head{stage}", f"roi_heads.mask_head{stage}"
    predictor = f"roi_heads.box_predictor{stage}"
    return (
        (f"{box}.shared_convs.{{i}}.bn.*", f"{our_box}.conv{{i+1}}.norm.*"),
        (f"{box}.shared_convs.{{i}}.conv.*", f"{our_box}.conv{{i+1}}.*"),
        (f"{box}.shared_fcs.{{i}}.*", f"{our_box}.fc{{i+1}}.*"),
        (f"{box}.fc_cls.*", f"{predictor}.cls_score.*"),
        (f"{box}.fc_reg.*", f"{predictor}.bbox_pred.*"),
        (f"{mask}.convs.{{i}}.bn.*", f"{our_mask}.mask_fcn{{i+1}}.norm.*"),
        (f"{mask}.convs.{{i}}.conv.*", f"{our_mask}.mask_fcn{{i+1}}.*"),
        (f"{mask}.upsample.*", f"{our_mask}.deconv.*"),
        (f"{mask}.conv_logits.*", f"{our_mask}.predictor.*"),
    )


_MMDET_DETECTOR: Rules = (
    ("neck.lateral_convs.{i}.bn.*", "backbone.fpn_lateral{i+2}.norm.*"),
    ("neck.lateral_convs.{i}.conv.*", "backbone.fpn_lateral{i+2}.*"),
    ("neck.fpn_convs.{i}.bn.*", "backbone.fpn_output{i+2}.norm.*"),
    ("neck.fpn_convs.{i}.conv.*", "backbone.fpn_output{i+2}.*"),
    ("rpn_head.rpn_conv.*", "proposal_generator.rpn_head.conv.*"),
    ("rpn_head.rpn_cls.*", "proposal_generator.rpn_head.objectness_logits.*"),
    ("rpn_head.rpn_reg.*", "proposal_generator.rpn_head.anchor_deltas.*"),
    *_mmdet_heads(""),
    *_mmdet_heads(".{s}"),
)

_ALL = (
    Layout(
        name="detectron2",
        prefix="backbone.bottom_up.",
        sign=r"stem\.conv1(_1)?\.weight",
        backbone=(),  # our own names
        detector=(),
        dropped=(
            r"(backbone\.(bottom_up\.)?)?linear\..*",  # the ImageNet classifier
            r"pixel_(mean|std)",  # here and below: buffers that older versions saved
            r"proposal_generator\.anchor_generator\.cell_anchors.*",
        ),
    ),
    Layout(
        name="torch",  # the authors' ImageNet files, and timm's
        prefix="",
        sign=r"conv1\.0\.weight",
        backbone=_TORCH,
        detector=(),
        dropped=(r"fc\..*",),  # the ImageNet classifier
    ),
    Layout(
        name="mmdetection",
        prefix="backbone.",
        sign=r"stem\.0\.weight",
        backbone=_MMDET,
        detector=_MMDET_DETECTOR,
        dropped=(r"fc\..*", r"data_preprocessor\..*"),
    ),
)
LAYOUTS: dict[str, Layout] = {layout.name: layout for layout in _ALL}
ALIASES = {"timm": "torch", "authors": "detectron2", "mmdet": "mmdetection"}


def get_layout(name: str) -> Layout:
    """Looks up a layout by name or alias.

    Raises:
        UserError: there is no such layout.
    """
    layout = LAYOUTS.get(ALIASES.get(name, name))
    if layout is None:
        raise UserError(f"There is no layout {name!r}; choose from {(*LAYOUTS, *ALIASES)}.")
    return layout


def recognise(names: Iterable[str]) -> tuple[Layout, str] | None:
    """Layout of a checkpoint and prefix of its backbone, detected from the stem; else None."""
    names = list(names)
    for layout in LAYOUTS.values():
        # detectron2 has "backbone." for a backbone without FPN
        for prefix in dict.fromkeys((layout.prefix, "backbone.", "")):
            sign = re.compile(re.escape(prefix) + layout.sign)
            if any(sign.fullmatch(name) for name in names):
                return layout, prefix
    return None


def translate(name: str, rules: Rules, *, reverse: bool = False) -> str | None:
    """Renames a tensor by the first matching rule; None if no rule matches.

    Args:
        name: name without the backbone's prefix.
        rules: rules of a layout.
        reverse: translate our name to theirs.
    """
    for theirs, ours in rules:
        source, target = (ours, theirs) if reverse else (theirs, ours)
        pattern, offsets = _compiled(source)
        if match := pattern.fullmatch(name):
            groups = match.groupdict()
            numbers = {key: int(groups[key]) - offset for key, offset in offsets.items()}

            def number(part: re.Match, numbers: dict[str, int] = numbers) -> str:
                return str(numbers[part[1]] + int(part[2] or 0))

            result = re.sub(r"\{(\w+)(?:\+(\d+))?\}", number, target)
            return result.replace("*", groups["leaf"])
    return None


@functools.cache
def _compiled(template: str) -> tuple[re.Pattern, dict[str, int]]:
    """Regular expression of one side of a rule, and the offsets of its numbers."""
    offsets = {m[1]: int(m[2] or 0) for m in re.finditer(r"\{(\w+)(?:\+(\d+))?\}", template)}
    pattern = re.escape(template).replace(r"\*", f"(?P<leaf>{_LEAF})")
    pattern = re.sub(r"\\\{(\w+)(?:\\\+\d+)?\\\}", r"(?P<\1>\\d+)", pattern)
    return re.compile(pattern), offsets
