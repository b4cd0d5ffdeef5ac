"""Cases of backbones and detectors of this package and of other libraries.

All have random weights. Statistics of batch norms are computed from a batch of similar images, and
class scores are spread over the proposals. Activations are therefore of the order of 1 to 10, and
there are detections.
"""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import torch
from detectron2.config import CfgNode
from detectron2.modeling import build_model
from fvcore.nn.precise_bn import update_bn_stats
from torch import nn

from resnest_d2.deploy import keep_freed_memory, optimize_for_inference, return_freed_memory
from resnest_d2.errors import UserError
from resnest_d2.model_zoo import load_config
from resnest_d2.modeling import ResNeSt

from .authors import authors_backbone, with_authors_backbone
from .measure import Case, Skipped, counted_flop, flop_of
from .parts import with_parts
from .peers import timm_backbone, torchvision_backbone, torchvision_detector

FASTER_RCNN = "COCO-Detection/faster_rcnn_ResNeSt_50_FPN_syncbn_1x.yaml"
_NORMS = ("RESNETS", "FPN", "ROI_BOX_HEAD", "ROI_MASK_HEAD")
Size = tuple[int, int]  # height, width


def backbone_cases(
    size: Size,
    *,
    depth: int,
    backends: Sequence[str],
    skip: Callable[[str, str], None],
    authors: str | None = None,
) -> list[Case]:
    """Backbones on one image: our ResNeSt, its optimized forms, timm's, and torchvision's ResNet.

    Args:
        size: size of the image.
        depth: depth of the network.
        backends: "plain", or a backend of ``optimize_for_inference``, as in "eager:bf16" with a
            precision.
        skip: called with the name and the reason of a case that cannot be measured.
        authors: folder of the authors' code, which then takes part.
    """
    image = images(size)
    plain = settle(ResNeSt(depth, norm="BN"))
    setting = {"size": f"{size[0]}x{size[1]}", "pixels": size[0] * size[1], "depth": depth}
    options = {"flop": flop_of(plain, image)}
    cases = []
    for name, model in _forms(plain, backends, skip):
        cases += _with_memory("backbone", name, setting, forward(model, image), **options)
    peers = {"timm": timm_backbone, "torchvision ResNet": torchvision_backbone}
    if authors:
        cfg = config_of(FASTER_RCNN, depth, ["MODEL.BACKBONE.FREEZE_AT", 0])
        peers["authors"] = lambda _: authors_backbone(authors, cfg)
    for name, build in peers.items():
        with skipping(name, skip):
            model = settle(build(depth))
            run = forward(model, image)
            flop = flop_of(model, image)
            cases.append(Case("backbone", name, setting, run, return_freed_memory, flop=flop))
    return cases


def detector_cases(
    size: Size,
    *,
    config: str,
    depth: int,
    proposals: int,
    backends: Sequence[str],
    skip: Callable[[str, str], None],
    authors: str | None = None,
) -> list[Case]:
    """Detectors on one image, with a fixed number of proposals and no NMS in the RPN.

    Args:
        size: size of the network's input.
        config: name of a GeneralizedRCNN's config.
        depth: depth of its ResNeSt.
        proposals: number of proposals.
        backends: see :func:`backbone_cases`.
        skip: see :func:`backbone_cases`.
        authors: see :func:`backbone_cases`; their ResNeSt takes the place of ours.

    Raises:
        ValueError: the image is too small for that number of proposals.
    """
    model, inputs = settled_detector(size, config=config, depth=depth, proposals=proposals)
    flop = flop_of(model, inputs)
    setting = {"size": f"{size[0]}x{size[1]}", "pixels": size[0] * size[1], "depth": depth}
    setting |= {"proposals": proposals, "config": Path(config).stem}
    cases = []
    # All are built before hooks are added to the first.
    for name, form in list(_forms(model, backends, skip)):
        parts = {}
        run = with_parts(forward(form, inputs), form, parts)
        cases += _with_memory("detector", name, setting, run, flop=flop, parts=parts)
    if authors:
        with skipping("authors", skip):
            opts = ["MODEL.BACKBONE.FREEZE_AT", 0]
            theirs = with_authors_backbone(model, authors, config_of(config, depth, opts))
            run = forward(theirs, inputs)
            cases.append(Case("detector", "authors", setting, run, return_freed_memory, flop=flop))
    with skipping("torchvision R-CNN", skip):
        masks = hasattr(model.roi_heads, "mask_head")
        peer, image = settled_peer(size, depth=depth, proposals=proposals, masks=masks)
        run = forward(peer, image)
        flop = counted_flop(run)
        name = "torchvision R-CNN"
        cases.append(Case("detector", name, setting, run, return_freed_memory, flop=flop))
    return cases


def settled_detector(
    size: Size, *, config: str, depth: int, proposals: int, device: str = "cpu"
) -> tuple[nn.Module, list[dict]]:
    """A detector in eval mode that gives a fixed number of proposals, and its input of one image.

    Raises:
        ValueError: the image is too small for that number of proposals.
    """
    opts = ["MODEL.RPN.NMS_THRESH", 1.0, "MODEL.BACKBONE.FREEZE_AT", 0]
    for key in ("PRE_NMS_TOPK_TEST", "POST_NMS_TOPK_TEST"):
        opts += [f"MODEL.RPN.{key}", proposals]
    model = build_detector(config, depth=depth, opts=opts).eval().to(device)
    settle(model.backbone)
    inputs = [{"image": (images(size)[0] * 57 + 118).clamp(0, 255)}]
    _spread_scores(model, lambda: model(inputs))
    _check_proposals(model, inputs, proposals)
    return model, inputs


def settled_peer(
    size: Size, *, depth: int, proposals: int, masks: bool, device: str = "cpu"
) -> tuple[nn.Module, list[torch.Tensor]]:
    """torchvision's R-CNN on the same image, see :func:`torchvision_detector`."""
    peer = torchvision_detector(size, depth=depth, proposals=proposals, masks=masks).to(device)
    settle(peer.backbone)
    image = [((images(size)[0] * 57 + 118).clamp(0, 255) / 255).to(device)]
    _spread_scores(peer, lambda: peer(image))
    return peer, image


def _with_memory(what: str, name: str, *args, **options) -> Iterator[Case]:
    """Cases of one of our models with the allocation that it has in use.

    The plain one then once more with memory kept, as train_net.py and the command line do on a CPU.
    """
    plain = name == "plain"
    prepare = return_freed_memory if plain else keep_freed_memory
    yield Case(what, f"ours, {name}", *args, prepare=prepare, **options)
    if plain:
        options = {key: value for key, value in options.items() if key != "parts"}
        yield Case(what, "ours, plain, memory kept", *args, prepare=keep_freed_memory, **options)


def build_detector(config: str, *, depth: int, opts: Sequence = ()) -> nn.Module:
    """Builds a config's detector on the CPU, with random weights and plain batch norms."""
    cfg = config_of(config, depth, opts)
    torch.manual_seed(0)
    return build_model(cfg)


def config_of(config: str, depth: int, opts: Sequence = ()) -> CfgNode:
    """A config with a ResNeSt of that depth and plain batch norms, for the CPU."""
    stem = 128 if depth >= 101 else 64
    size = ["MODEL.RESNETS.DEPTH", depth, "MODEL.RESNETS.STEM_OUT_CHANNELS", stem]
    cfg = load_config(config, ["MODEL.DEVICE", "cpu", *size, *opts])
    for part in _NORMS:
        cfg.MODEL[part].NORM = cfg.MODEL[part].NORM.replace("SyncBN", "BN")
    return cfg


def _forms(
    model: nn.Module, backends: Sequence[str], skip: Callable[[str, str], None]
) -> Iterator[tuple[str, nn.Module]]:
    for name in backends:
        if name == "plain":
            yield name, model
            continue
        backend, _, precision = name.partition(":")
        options = {"precision": precision or "fp32"}
        if precision == "int8":
            options["calibration"] = [one * 57 + 118 for one in images((320, 480), 8)]
        with skipping(f"ours, {name}", skip):
            yield name, optimize_for_inference(model, backend=backend, **options)


@contextlib.contextmanager
def skipping(name: str, skip: Callable[[str, str], None]) -> Iterator[None]:
    try:
        yield
    except (ImportError, UserError, Skipped) as error:
        skip(name, str(error))


def forward(model: nn.Module, inputs: object) -> Callable[[], object]:
    return torch.no_grad()(lambda: model(inputs))


def settle(model: nn.Module) -> nn.Module:
    """Computes statistics of batch norms from one batch, and sets eval mode."""
    device = next(model.parameters()).device
    update_bn_stats(model.train(), [images((128, 128), 16).to(device)], 1)
    return model.eval()


def images(size: Size, number: int = 1) -> torch.Tensor:
    """Smooth random images, (number, 3, H, W), with mean 0 and a standard deviation of about 1.

    Plain noise would not do. Its average over an image hardly varies, and batch norms of the
    attention, which see only averages, would blow up other images.
    """
    coarse = torch.randn(number, 3, 4, 5, generator=torch.Generator().manual_seed(0))
    return 1.5 * nn.functional.interpolate(coarse, size, mode="bilinear")


def _spread_scores(model: nn.Module, run: Callable[[], object]) -> None:
    """Gives class logits mean 0 and standard deviation 3 over the proposals."""
    layers = [m for name, m in model.named_modules() if name.endswith("cls_score")]
    for layer in layers:  # a cascade's stage sees the boxes of the previous one
        outputs = []
        hook = layer.register_forward_hook(lambda _, __, out, outputs=outputs: outputs.append(out))
        with torch.no_grad():
            run()
            hook.remove()
            scale = 3 / outputs[0].std(0).clamp(min=1e-6)
            layer.weight *= scale[:, None]
            layer.bias.copy_((layer.bias - outputs[0].mean(0)) * scale)


def _check_proposals(model: nn.Module, inputs: list[dict], proposals: int) -> None:
    counts = []
    hook = model.proposal_generator.register_forward_hook(
        lambda _, __, out: counts.append(len(out[0][0]))
    )
    forward(model, inputs)()
    hook.remove()
    if counts != [proposals]:
        raise UserError(
            f"The RPN gives {counts[0]} proposals, not {proposals}; choose a larger --size or "
            "fewer --proposals."
        )
