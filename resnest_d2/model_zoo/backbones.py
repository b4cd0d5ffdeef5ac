"""A ResNeSt by name, as timm's ``create_model`` gives one: for a detector of your own."""

import difflib
from collections.abc import Sequence

from detectron2.layers import ShapeSpec

from resnest_d2.checkpoint import ReportingCheckpointer
from resnest_d2.config import get_cfg
from resnest_d2.errors import UserError
from resnest_d2.modeling import ARCHS, ResNeSt, build_resnest_backbone

from .table import Model, find_model, models


def get_backbone(
    name: str = "resnest50",
    *,
    trained: bool = False,
    out_features: Sequence[str] = ("res2", "res3", "res4", "res5"),
    norm: str = "BN",
) -> ResNeSt:
    """A ResNeSt backbone, on the CPU and in training mode, nothing frozen.

    It takes (N, 3, H, W), normalised as its weights want it, and gives a dictionary of maps; their
    channels and strides are in ``output_shape()``.

    Args:
        name: ``"resnest50"`` or another depth of :data:`resnest_d2.modeling.ARCHS`, or a backbone
            of the model zoo, with or without what stands before its slash, e.g.
            ``"imagenet/resnest50_detectron"`` or ``"resnest14d"``.
        trained: load the published weights. Those of a bare depth are the first in the zoo's
            table: the authors' for 50, 101, 200 and 269, timm's for 14 and 26.
        out_features: names of the maps to give, of ``stem``, ``res2`` .. ``res5``.
        norm: of the layers, a value of MODEL.RESNETS.NORM; ``"FrozenBN"`` is usual for few images a
            GPU.

    Raises:
        OSError: the weights cannot be fetched.
        UserError: no such backbone, one without published weights where they are asked for, or
            a value that is none of those above.
    """
    keys, weights = _find(name)
    if trained and weights is None:
        known = [model.id for model in models() if model.is_backbone]
        raise UserError(f"There are no published weights of {name}; choose from {known}.")
    features = ["stem", *(f"res{i}" for i in range(2, 6))]
    if not out_features or set(out_features) - set(features):
        raise UserError(f"out_features is {list(out_features)}; choose from {features}.")
    cfg = get_cfg()
    cfg.MODEL.BACKBONE.FREEZE_AT = 0
    cfg.MODEL.RESNETS.STRIDE_IN_1X1 = False  # the average pool strides
    cfg.MODEL.RESNETS.NORM, cfg.MODEL.RESNETS.OUT_FEATURES = norm, list(out_features)
    for key, value in keys.items():
        cfg.MODEL.RESNETS[key] = value
    backbone = build_resnest_backbone(cfg, ShapeSpec(channels=3))
    if trained and weights:
        checkpointer = ReportingCheckpointer(backbone)
        checkpointer.load(weights)
        if checkpointer.report is None or not checkpointer.report.complete:
            raise UserError(f"The published weights of {name} do not fit. {checkpointer.report}")
    return backbone


def _find(name: str) -> tuple[dict, str | None]:
    """Keys of MODEL.RESNETS, and the path of the weights if there are published ones."""
    rows = {model.id: model for model in models() if model.is_backbone}
    depths = {f"resnest{depth}": depth for depth in ARCHS}
    for id, row in rows.items():
        if name in (id, id.partition("/")[2]):
            return row.config, row.path
    if name in depths:
        arch = {"DEPTH": depths[name], "STEM_OUT_CHANNELS": ARCHS[depths[name]].stem_channels}
        first = next((row for row in rows.values() if row.config == arch), None)
        return arch, first and first.path
    if (detector := _detector(name)) is not None:
        raise UserError(
            f"{detector.id} is a detector, no backbone: model_zoo.get({name!r}).backbone has it."
        )
    close = difflib.get_close_matches(name, [*depths, *rows], n=3, cutoff=0.4) or list(depths)
    raise UserError(f"There is no backbone {name!r}; close names: {', '.join(close)}.")


def _detector(name: str) -> Model | None:
    try:
        return find_model(name)
    except UserError:
        return None
