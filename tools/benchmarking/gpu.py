"""Cases on a CUDA GPU: matrix products, backbones, detectors and training steps in all forms.

float32 is computed in full unless a form says TF32. Peak bytes are those above what is allocated
before a run: weights do not count, gradients of a training step do.
"""

import argparse
import copy
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

import torch
from torch import nn

from resnest_d2.errors import UserError
from resnest_d2.modeling import ResNeSt

from . import models
from .forms import (
    BACKBONE,
    DETECTOR,
    DTYPES,
    PEERS,
    TRAINING,
    Form,
    check_forms,
    chosen,
    inference,
    set_tf32,
    training_step,
)
from .measure import LIMIT_SIZE, Case
from .peers import timm_backbone, torchvision_backbone
from .training import KEY, training_inputs

KINDS = ("backbone", "detector", "training")
Skip = Callable[[str, str], None]


def settings(args: argparse.Namespace, skip: Skip, device: str = "cuda") -> Iterator[list[Case]]:
    """Yields the cases of one setting at a time.

    Args:
        args: arguments of tools/benchmark.py.
        skip: called with the name and the reason of a case that cannot be measured.
        device: "cuda"; "cpu" in tests.

    Raises:
        UserError: no GPU, an unknown form, or what is not measured on a GPU.
    """
    check_forms(args.forms)
    if other := sorted(set(args.what) - set(KINDS)):
        raise UserError(f"--device cuda measures {', '.join(KINDS)}; got --what {other[0]}.")
    if device == "cuda" and not torch.cuda.is_available():
        raise UserError("--device cuda needs a CUDA GPU, and torch finds none.")
    options = {"forms": args.forms, "device": device}
    yield product_cases(device)
    if "backbone" in args.what:
        for size, depth, n in itertools.product(args.size, args.depth, args.backbone_batch):
            yield backbone_cases(size, depth=depth, batch=n, skip=skip, **options)
    if "detector" in args.what:
        detector = {**options, "config": args.config, "skip": skip}
        for size, depth, n in itertools.product(args.size, args.depth, args.proposals):
            yield detector_cases(size, depth=depth, proposals=n, **detector)
    if "training" in args.what:
        step = {**options, "config": args.train_config, "checkpoint": args.checkpoint}
        for depth, n in itertools.product(args.depth, args.batch):
            yield training_cases(args.train_size, depth=depth, batch=n, **step)


def product_cases(device: str) -> list[Case]:
    """Matrix products in each precision: limits of convolutions that use the same units."""
    size = LIMIT_SIZE[device]
    cases = []
    for name, dtype in DTYPES.items():
        matrix = torch.rand(size, size, device=device, dtype=dtype)
        run = partial(torch.mm, matrix, matrix)
        prepare = partial(set_tf32, name == "tf32")
        cases.append(Case("product", name, {"size": size}, run, prepare, flop=2 * size**3))
    return cases


def backbone_cases(
    size: models.Size,
    *,
    depth: int,
    batch: int,
    forms: Sequence[str],
    skip: Skip,
    device: str,
) -> list[Case]:
    """Backbones on a batch: our ResNeSt in all forms, timm's, and torchvision's ResNet.

    Args:
        size: size of the images.
        depth: depth of the network.
        batch: number of images.
        forms: names of the forms.
        skip: called with the name and the reason of a case that cannot be measured.
        device: "cuda"; "cpu" in tests.
    """
    images = models.images(size, batch).to(device)
    setting = {"size": f"{size[0]}x{size[1]}", "pixels": size[0] * size[1], "depth": depth}
    setting |= {"batch": batch, "device": device_name(device)}

    def settled(model: nn.Module) -> nn.Module:
        return models.settle(model.to(device))

    builders = {
        "ours": (BACKBONE, lambda: (settled(ResNeSt(depth, norm="BN")), images)),
        "timm": (PEERS, lambda: (settled(timm_backbone(depth)), images)),
        "torchvision ResNet": (PEERS, lambda: (settled(torchvision_backbone(depth)), images)),
    }
    return list(_cases("backbone", builders, setting, forms=forms, skip=skip, device=device))


def detector_cases(
    size: models.Size,
    *,
    config: str,
    depth: int,
    proposals: int,
    forms: Sequence[str],
    skip: Skip,
    device: str,
) -> list[Case]:
    """Detectors on one image, as those of :func:`benchmarking.models.detector_cases`."""
    options = {"depth": depth, "proposals": proposals, "device": device}
    model, inputs = models.settled_detector(size, config=config, **options)
    inputs = [{"image": inputs[0]["image"].to(device)}]
    setting = {"size": f"{size[0]}x{size[1]}", "pixels": size[0] * size[1], "depth": depth}
    setting |= {"proposals": proposals, "config": Path(config).stem, "device": device_name(device)}
    masks = hasattr(model.roi_heads, "mask_head")
    builders = {
        "ours": (DETECTOR, lambda: (model, inputs)),
        "torchvision": (PEERS, lambda: models.settled_peer(size, masks=masks, **options)),
    }
    return list(_cases("detector", builders, setting, forms=forms, skip=skip, device=device))


def _cases(
    what: str,
    builders: Mapping[str, tuple],
    setting: dict,
    *,
    forms: Sequence[str],
    skip: Skip,
    device: str,
) -> Iterator[Case]:
    """Cases of each owner's model, which its builder gives with the input, in each form."""
    for owner, (table, build) in builders.items():
        with models.skipping(owner, skip):
            model, inputs = build()
            flop = models.counted_flop(models.forward(model, inputs))
            for form in chosen(table, forms):
                name = f"{owner}, {form.name}"
                with models.skipping(name, skip):
                    run = inference(model, inputs, form, device=device)
                    prepare = partial(set_tf32, form.precision == "tf32")
                    yield Case(what, name, setting, run, prepare, flop=flop)


def training_cases(
    size: models.Size,
    *,
    depth: int,
    batch: int,
    checkpoint: Sequence[str],
    config: str,
    forms: Sequence[str],
    device: str,
) -> list[Case]:
    """Forward and backward passes with each kind of activation checkpointing in each precision."""
    setting = {"size": f"{size[0]}x{size[1]}", "depth": depth, "batch": batch}
    setting |= {"config": Path(config).stem, "device": device_name(device)}
    cases, flop = [], None
    for kind in checkpoint:
        model = models.build_detector(config, depth=depth, opts=[KEY, kind]).train().to(device)
        inputs = training_inputs(size, batch)
        inputs = [
            {k: v.to(device) if hasattr(v, "to") else v for k, v in one.items()} for one in inputs
        ]
        other = copy.deepcopy(model).to(memory_format=torch.channels_last)
        for form in chosen(TRAINING, forms):
            if form.published and kind != "none":
                continue
            net = other if form.channels_last else model
            run = training_step(net, inputs, form, device=device)
            flop = flop or models.counted_flop(run)
            prepare = partial(_prepare_step, net, form)
            case = Case("training", f"{kind}, {form.name}", setting, run, prepare, flop=flop)
            cases.append(case)
    return cases


def _prepare_step(model: nn.Module, form: Form) -> None:
    set_tf32(form.precision == "tf32")
    model.zero_grad(set_to_none=True)


def device_name(device: str) -> str:
    """Name of the card, or "cpu"."""
    return torch.cuda.get_device_name() if device == "cuda" else device
