"""Cases of a training step: forward and backward pass of a detector, and bytes saved between."""

import copy
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from unittest import mock

import torch
from detectron2.structures import Boxes, Instances, PolygonMasks
from detectron2.utils.events import EventStorage
from torch import nn
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten
from torch.utils.flop_counter import FlopCounterMode

from resnest_d2 import get_cfg
from resnest_d2.deploy import keep_freed_memory
from resnest_d2.deploy.cpu.layout import use_channels_last
from resnest_d2.deploy.cpu.roi_align import replace_poolers
from resnest_d2.deploy.cpu.upsampling import replace_upsampling
from resnest_d2.layers import split_attention

from .measure import Case
from .models import Size, build_detector

CONFIG = "COCO-Detection/faster_rcnn_ResNeSt_50_FPN_1x.yaml"
KEY = "MODEL.RESNETS.ACTIVATION_CHECKPOINT"


def training_cases(
    size: Size,
    *,
    depth: int,
    batch: int,
    checkpoint: Sequence[str],
    skip: Callable[[str, str], None],
    config: str = CONFIG,
) -> list[Case]:
    """Training steps of a Faster R-CNN with each kind of activation checkpointing.

    Without checkpointing also as the Trainer changes a detector on the CPU, in float32 and in
    bfloat16.

    FLOP are those of the step without checkpointing, so recomputed operations count once.

    Args:
        size: size of the images.
        depth: depth of the ResNeSt.
        batch: number of images.
        checkpoint: values of MODEL.RESNETS.ACTIVATION_CHECKPOINT; "none" leaves the key out.
        skip: called with the name and the reason of a case that cannot be measured.
        config: name of the detector's config.
    """
    setting = {"size": f"{size[0]}x{size[1]}", "depth": depth, "batch": batch}
    inputs = training_inputs(size, batch)
    cases, flop = [], None
    for kind in checkpoint:
        if kind != "none" and "ACTIVATION_CHECKPOINT" not in get_cfg().MODEL.RESNETS:
            skip(kind, f"there is no key {KEY}")
            continue
        opts = [] if kind == "none" else [KEY, kind]
        model = build_detector(config, depth=depth, opts=opts).train()
        losses = losses_of(model, inputs)
        run = _step(model, losses)
        if flop is None:
            with FlopCounterMode(display=False) as counter:
                run()
            flop = counter.get_total_flops()
        images = model.preprocess_image(inputs).tensor
        resnest = partial(model.backbone.bottom_up, images)
        forms = {kind: lambda function: function}
        if kind == "none":
            by_autograd = mock.patch.object(split_attention, "weighted_sum", published_sum)
            forms["none, published attention"] = by_autograd
        for name, form in forms.items():
            case = Case("training", name, setting, form(run), flop=flop)
            case.prepare = keep_freed_memory  # as train_net.py does on a CPU
            case.saved = saved_bytes(form(losses))
            case.saved_resnest = saved_bytes(form(resnest))
            cases.append(case)
        if kind == "none":
            cases += _cases_of_trainer(copy.deepcopy(model), inputs, setting=setting, flop=flop)
    return cases


def _cases_of_trainer(
    model: nn.Module, inputs: list[dict], *, setting: dict, flop: float
) -> Iterator[Case]:
    """Steps of a detector as the Trainer builds it on the CPU."""
    model = use_channels_last(replace_upsampling(replace_poolers(model)))
    images = model.preprocess_image(inputs).tensor
    for name, dtype in (("trainer", torch.float32), ("trainer, bf16", torch.bfloat16)):
        losses = _in_dtype(dtype, losses_of(model, inputs))
        case = Case("training", f"none, as {name}", setting, _step(model, losses), flop=flop)
        case.prepare = keep_freed_memory
        case.saved = saved_bytes(losses)
        resnest = partial(model.backbone.bottom_up, images.to(memory_format=torch.channels_last))
        case.saved_resnest = saved_bytes(_in_dtype(dtype, resnest))
        yield case


def published_sum(x: torch.Tensor, attention: torch.Tensor) -> torch.Tensor:
    """Weighted sum of split attention as in the paper and the authors' code.

    Args:
        x: (N, R C, H, W), split after split.
        attention: (N, R, C, 1, 1).
    """
    splits = torch.split(x, attention.shape[2], dim=1)
    return sum(split * attention[:, r] for r, split in enumerate(splits))


def training_inputs(size: Size, batch: int) -> list[dict]:
    """Images of noise with eight boxes each, whose masks fill them."""
    generator = torch.Generator().manual_seed(0)
    scale = torch.tensor([size[1], size[0]]) / 2
    inputs = []
    for _ in range(batch):
        corner, extent = torch.rand(2, 8, 2, generator=generator) * scale
        truth = Instances(size)
        truth.gt_boxes = Boxes(torch.cat([corner, corner + extent + 1], dim=1))
        truth.gt_classes = torch.zeros(8, dtype=torch.long)
        x0, y0, x1, y1 = truth.gt_boxes.tensor.T.double()
        corners = torch.stack([x0, y0, x1, y0, x1, y1, x0, y1], 1)  # (8, 8)
        truth.gt_masks = PolygonMasks([[polygon] for polygon in corners.numpy()])
        image = torch.rand(3, *size, generator=generator) * 255
        inputs.append({"image": image, "instances": truth, "height": size[0], "width": size[1]})
    return inputs


def losses_of(model: nn.Module, inputs: list[dict]) -> Callable[[], torch.Tensor]:
    """A function that computes the sum of the losses, with the same proposals each time."""

    def run() -> torch.Tensor:
        torch.manual_seed(0)  # for the sampling of proposals
        with EventStorage():
            return sum(model(inputs).values())

    return run


def _in_dtype(dtype: torch.dtype, forward: Callable[[], object]) -> Callable[[], object]:
    def run() -> object:
        with torch.autocast("cpu", torch.bfloat16, enabled=dtype is torch.bfloat16):
            return forward()

    return run


def _step(model: nn.Module, losses: Callable[[], torch.Tensor]) -> Callable[[], None]:
    def run() -> None:
        model.zero_grad(set_to_none=True)
        losses().backward()

    return run


def saved_bytes(forward: Callable[[], object]) -> int:
    """Bytes that a forward pass keeps for backward, without parameters; storages count once."""
    with Living() as living:
        result = forward()
        kept = living.count()
    del result
    return kept


class Living(TorchDispatchMode):
    """Mode that tracks computed storages, and counts those that are still in use."""

    def __init__(self):
        super().__init__()
        self.storages = {}

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        before = {reference.cdata for reference, _ in _storages((args, kwargs))}
        out = function(*args, **(kwargs or {}))
        for reference, size in _storages(out):
            if reference.cdata not in before:  # otherwise it is a view
                self.storages[reference.cdata] = (reference, size)
        return out

    def count(self) -> int:
        return sum(size for ref, size in self.storages.values() if not ref.expired())


def _storages(tree: object) -> Iterator[tuple[StorageWeakRef, int]]:
    for tensor in tree_flatten(tree)[0]:
        if isinstance(tensor, torch.Tensor):
            yield StorageWeakRef(tensor.untyped_storage()), tensor.untyped_storage().nbytes()
