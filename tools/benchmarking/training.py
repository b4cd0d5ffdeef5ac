"""Cases of a training step: forward and backward of a detector, and what it saves in between."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from unittest import mock

import torch
from detectron2.structures import Boxes, Instances
from detectron2.utils.events import EventStorage
from torch import nn
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten
from torch.utils.flop_counter import FlopCounterMode

from resnest_d2 import get_cfg
from resnest_d2.deploy import keep_freed_memory
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
    """A step of Faster R-CNN with each kind of activation checkpointing.

    The useful work is the step's without checkpointing: what is computed twice counts once.

    Args:
        size: of the images.
        depth: of the ResNeSt.
        batch: number of images.
        checkpoint: values of MODEL.RESNETS.ACTIVATION_CHECKPOINT; "none" is without that key.
        skip: told the name and the reason of what cannot be measured.
        config: name of the detector's.
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
        losses = _losses(model, inputs)
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
    return cases


def published_sum(x: torch.Tensor, attention: torch.Tensor) -> torch.Tensor:
    """Split attention's last step as the paper and the authors' code write it.

    Args:
        x: (N, R C, H, W), split after split.
        attention: (N, R, C, 1, 1).
    """
    splits = torch.split(x, attention.shape[2], dim=1)
    return sum(split * attention[:, r] for r, split in enumerate(splits))


def training_inputs(size: Size, batch: int) -> list[dict]:
    """Noise with eight boxes each."""
    generator = torch.Generator().manual_seed(0)
    scale = torch.tensor([size[1], size[0]]) / 2
    inputs = []
    for _ in range(batch):
        corner, extent = torch.rand(2, 8, 2, generator=generator) * scale
        truth = Instances(size)
        truth.gt_boxes = Boxes(torch.cat([corner, corner + extent + 1], dim=1))
        truth.gt_classes = torch.zeros(8, dtype=torch.long)
        image = torch.rand(3, *size, generator=generator) * 255
        inputs.append({"image": image, "instances": truth, "height": size[0], "width": size[1]})
    return inputs


def _losses(model: nn.Module, inputs: list[dict]) -> Callable[[], torch.Tensor]:
    def run() -> torch.Tensor:
        torch.manual_seed(0)  # which proposals are sampled
        with EventStorage():
            return sum(model(inputs).values())

    return run


def _step(model: nn.Module, losses: Callable[[], torch.Tensor]) -> Callable[[], None]:
    def run() -> None:
        model.zero_grad(set_to_none=True)
        losses().backward()

    return run


def saved_bytes(forward: Callable[[], object]) -> int:
    """Bytes computed by a forward pass and kept for backward, each storage once; no parameters."""
    with Living() as living:
        result = forward()
        kept = living.count()
    del result
    return kept


class Living(TorchDispatchMode):
    """Knows the storages computed under it that are still referred to, by whomever."""

    def __init__(self):
        super().__init__()
        self.storages = {}

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        before = {reference.cdata for reference, _ in _storages((args, kwargs))}
        out = function(*args, **(kwargs or {}))
        for reference, size in _storages(out):
            if reference.cdata not in before:  # else a view, of a parameter perhaps
                self.storages[reference.cdata] = (reference, size)
        return out

    def count(self) -> int:
        return sum(size for ref, size in self.storages.values() if not ref.expired())


def _storages(tree: object) -> Iterator[tuple[StorageWeakRef, int]]:
    for tensor in tree_flatten(tree)[0]:
        if isinstance(tensor, torch.Tensor):
            yield StorageWeakRef(tensor.untyped_storage()), tensor.untyped_storage().nbytes()
