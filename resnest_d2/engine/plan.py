"""What a training would do, as a table: the dry run, and in short the beginning of a run."""

import textwrap
from collections.abc import Collection, Sequence

import torch
from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog
from tabulate import tabulate
from torch import nn

from resnest_d2.checkpoint.fitting import build_on_meta, fit
from resnest_d2.config.keys import get_key
from resnest_d2.data.anchors import MATCH

from .anchors import AnchorFit
from .memory import training_bytes
from .schedule import is_given
from .schedule_rules import RULES

_SHOWN = 5  # names of classes
_WIDTH = 80  # of the recipe in short


def describe_training(
    cfg: CfgNode,
    images: Sequence[dict],
    *,
    processes: int,
    given: Collection[str],
    anchors: AnchorFit | None = None,
) -> str:
    """Table of a training that has not begun: data, schedule, weights and memory.

    Args:
        cfg: config of the training with the schedule that would run.
        images: images that it would train on.
        processes: number of processes.
        given: keys that the user set.
        anchors: those fitted to the images.

    Raises:
        UserError: the checkpoint to start from is missing, or of another model.
    """
    model = build_on_meta(cfg)
    rows = [
        *_data(cfg, images),
        *_schedule(cfg, len(images), given),
        *_anchors(anchors),
        *_weights(cfg, model),
        *_memory(cfg, model, cfg.SOLVER.IMS_PER_BATCH // processes),
    ]
    return tabulate(rows, tablefmt="plain", disable_numparse=True)


def summarize_training(
    cfg: CfgNode,
    images: Sequence[dict],
    *,
    model: nn.Module,
    processes: int,
    given: Collection[str],
) -> list[tuple[str, str]]:
    """What a training that begins trains on what, in labelled lines; see the dry run for reasons.

    Args:
        cfg: config of the training.
        images: images that it trains on.
        model: its model.
        processes: number of processes.
        given: keys that the user set.
    """
    facts = [
        f"{label} {text}"
        for label, text, _ in _schedule(cfg, len(images), given)
        if "checkpoint" not in label and text not in ("none", "never")
    ]
    first, *more = textwrap.wrap("; ".join(facts), _WIDTH, break_on_hyphens=False)
    rows = [("model", f"{_name(cfg)}; trains {_size(model)}"), *_joined(_data(cfg, images))]
    return [*rows, ("recipe", first), *(("", line) for line in more), _device(cfg, processes)]


def summarize_evaluation(cfg: CfgNode, *, processes: int) -> list[tuple[str, str]]:
    """What an evaluation that begins evaluates on what, in labelled lines.

    Args:
        cfg: config of the evaluation.
        processes: number of processes.
    """
    return [("model", _name(cfg)), *_joined(_evaluation_data(cfg)), _device(cfg, processes)]


def _joined(rows: Sequence[tuple[str, str, str]]) -> list[tuple[str, str]]:
    return [(label, f"{text} ({more})" if more else text) for label, text, more in rows]


def _name(cfg: CfgNode) -> str:
    """Kind of the detector and depth of its ResNeSt, such as Mask R-CNN, ResNeSt-50."""
    kind = cfg.MODEL.META_ARCHITECTURE
    if kind == "GeneralizedRCNN":
        cascade = "Cascade " * ("Cascade" in cfg.MODEL.ROI_HEADS.NAME)
        branch = "Mask" if cfg.MODEL.MASK_ON else "" if cascade else "Faster"
        branch = "Keypoint" if cfg.MODEL.KEYPOINT_ON else branch
        kind = " ".join(f"{cascade}{branch} R-CNN".split())
    backbone = cfg.MODEL.BACKBONE.NAME
    return f"{kind}, ResNeSt-{cfg.MODEL.RESNETS.DEPTH}" if "resnest" in backbone else kind


def _device(cfg: CfgNode, processes: int) -> tuple[str, str]:
    device = cfg.MODEL.DEVICE
    if device == "cpu":
        number = torch.get_num_threads()
        device = f"CPU, {number} thread{'s' * (number > 1)}"
    return "device", device if processes == 1 else f"{processes} processes, each on {device}"


def _data(cfg: CfgNode, images: Sequence[dict]) -> list[tuple[str, str, str]]:
    names = list(cfg.DATASETS.CLASSES)
    shown = ", ".join(names[:_SHOWN]) + (", ..." if len(names) > _SHOWN else "")
    objects = sum(not a.get("iscrowd") for i in images for a in i.get("annotations", ()))
    size, sets = f"{len(images)} images, {objects} objects", ", ".join(cfg.DATASETS.TRAIN)
    return [
        ("training data", size, sets),
        *_evaluation_data(cfg),
        ("classes", str(len(names)) if names else "of the config", shown),
    ]


def _evaluation_data(cfg: CfgNode) -> list[tuple[str, str, str]]:
    if not cfg.DATASETS.TEST:
        return [("evaluation data", "none: the result is model_final.pth", "")]
    counts = {name: len(DatasetCatalog.get(name)) for name in cfg.DATASETS.TEST}
    return [("evaluation data", f"{number} images", name) for name, number in counts.items()]


def _schedule(cfg: CfgNode, images: int, given: Collection[str]) -> list[tuple[str, str, str]]:
    rows = []
    for rule in RULES:
        value = get_key(cfg, rule.key)
        if rule.key == "MODEL.RESNETS.NORM" and value != "FrozenBN":
            continue
        if rule.key.startswith("INPUT.AUG.") and not value:
            continue
        if rule.key == "SOLVER.EPOCHS":
            value = value or round(cfg.SOLVER.MAX_ITER * cfg.SOLVER.IMS_PER_BATCH / images, 2)
        why = "set by you" if is_given(rule.key, cfg, given) else rule.why
        rows.append((rule.label, _text(rule.key, value), why))
    keys = cfg.SOLVER
    kept = f"the last {keys.CHECKPOINTS_TO_KEEP}" if keys.CHECKPOINTS_TO_KEEP else "all"
    if keys.CHECKPOINT_MINUTES:
        kept = f"at least every {keys.CHECKPOINT_MINUTES:g} minutes; {kept}"
    rows.append(("checkpoints", f"{kept} kept, and the best", ""))
    return rows


def _text(key: str, value: object) -> str:
    if key == "SOLVER.STEPS":
        return ", ".join(map(str, value)) if value else "never"  # type: ignore[call-overload]
    if key in ("TEST.EVAL_PERIOD", "SOLVER.CHECKPOINT_PERIOD", "SOLVER.WARMUP_ITERS"):
        return f"{value} iteration{'s' * (value != 1)}" if value else "none"
    if isinstance(value, float):
        return f"{value:g}"
    return str(value) or "none"


def _anchors(fit: AnchorFit | None) -> list[tuple[str, str, str]]:
    if fit is None:
        return []
    keys, found = fit.cfg.MODEL.ANCHOR_GENERATOR, fit.found
    recall = f"{found.recall:.1%} of the boxes with IoU {MATCH}, {found.before:.1%} before"
    kept = "no better: the config's stay" if fit.kept else "fitted to the boxes"
    return [
        ("anchors' recall", recall, kept),
        ("anchors' sizes", ", ".join(f"{v:g}" for level in keys.SIZES for v in level), ""),
        ("anchors' ratios", ", ".join(f"{v:g}" for v in keys.ASPECT_RATIOS[0]), "height to width"),
    ]


def _weights(cfg: CfgNode, model: nn.Module) -> list[tuple[str, str, str]]:
    size = _size(model)
    if not cfg.MODEL.WEIGHTS:
        return [("starts from", "random weights", ""), ("trains", size, "")]
    report = fit(cfg.MODEL.WEIGHTS, model)
    return [("starts from", str(report), ""), ("trains", size, "")]


def _size(model: nn.Module) -> str:
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    total = sum(p.numel() for p in model.parameters())
    return f"{trained / 1e6:.1f} of {total / 1e6:.1f} million parameters"


def _memory(cfg: CfgNode, model: nn.Module, images: int) -> list[tuple[str, str, str]]:
    if cfg.MODEL.META_ARCHITECTURE != "GeneralizedRCNN":
        return []
    size = training_bytes(model, cfg, images) / 2**30
    return [("memory", f"about {size:.1f} GiB per process", "float32, largest image size")]
