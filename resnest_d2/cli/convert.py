"""``resnest-d2 convert``: converts checkpoints between the layouts of several frameworks."""

from enum import Enum
from pathlib import Path
from typing import Annotated, Optional

import typer

from resnest_d2.errors import UserError
from resnest_d2.outputs import require_new

from .common import complete_config, prepare, say


class Target(str, Enum):
    detectron2 = "detectron2"
    torch = "torch"
    mmdetection = "mmdetection"
    timm = "timm"
    authors = "authors"
    mmdet = "mmdet"


_OURS = Target("detectron2")


def convert(
    source: Annotated[Path, typer.Argument(help="Checkpoint to read, .pth or .safetensors.")],
    target: Annotated[Path, typer.Argument(help="Checkpoint to write, .pth or .safetensors.")],
    *,
    to: Annotated[Target, typer.Option(help="Layout to write.")] = _OURS,
    config: Annotated[
        Optional[str],
        typer.Option(
            help="Write only if the checkpoint fits this config's model completely.",
            autocompletion=complete_config,
        ),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace existing files.")] = False,
) -> None:
    """Convert a checkpoint to another layout.

    The checkpoint may be from detectron2, mmdetection, timm or the authors. Tensors are only
    renamed. The checkpoint itself is never replaced.

    Examples:
      resnest-d2 convert epoch_12.pth converted.pth \\
          --config COCO-Detection/faster_rcnn_ResNeSt_50_FPN_1x.yaml
      resnest-d2 convert output/mine/model_final.pth detector.pth --to mmdetection
      resnest-d2 convert output/mine/model_final.pth backbone.safetensors --to timm
    """
    from resnest_d2.checkpoint import convert_file
    from resnest_d2.checkpoint.fitting import build_on_meta, fit
    from resnest_d2.config import given_keys, load_config
    from resnest_d2.data.registration import learn_classes

    prepare()
    require_new([target], overwrite=overwrite, sources=[source])
    if config:
        cfg = load_config(config)
        learn_classes(cfg, given=given_keys(config))
        report = fit(str(source), build_on_meta(cfg))
        say(str(report))
        if report.unused or not report.complete:
            raise UserError(f"{source} does not fit {config}; nothing was written.")
    conversion = convert_file(str(source), str(target), to=to.value, overwrite=overwrite)
    say(f"{target}: {conversion}")
    for title, names in (("unused", conversion.unused), ("missing", conversion.missing)):
        for name in names:
            say(f"  {title}: {name}")
