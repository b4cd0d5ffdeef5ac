#!/usr/bin/env python3
"""Convert a ResNeSt checkpoint between detectron2, mmdetection, timm and the authors' layouts.

To detectron2:    tools/convert_checkpoint.py published.pth converted.pth
And check it:     ... --config-file COCO-Detection/faster_rcnn_ResNeSt_50_FPN_1x.yaml
Back:             tools/convert_checkpoint.py output/model_final.pth detector.pth --to mmdetection
Backbone alone:   tools/convert_checkpoint.py output/model_final.pth backbone.safetensors --to timm
"""

import argparse
import sys
import warnings
from collections.abc import Sequence

import torch
from detectron2.config import CfgNode
from detectron2.modeling import build_model

from resnest_d2.checkpoint import LoadReport, ReportingCheckpointer, convert_file
from resnest_d2.checkpoint.layouts import ALIASES, LAYOUTS
from resnest_d2.model_zoo import load_config


def fit(path: str, cfg: CfgNode) -> LoadReport:
    """What loading a checkpoint into a config's model would do; takes no memory for the model.

    Raises:
        ValueError: a checkpoint of another model.
    """
    cfg.MODEL.DEVICE = "meta"
    with torch.device("meta"):
        checkpointer = ReportingCheckpointer(build_model(cfg))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that copying to a meta tensor does nothing
        checkpointer.load(path)
    return checkpointer.report


def main(argv: Sequence[str] | None = None) -> int:
    """A user's mistake ends in a sentence and 1; a checkpoint that does not fit its config too."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("source", help="checkpoint in any of the layouts, .pth or .safetensors")
    parser.add_argument("target", help="file to write, .pth or .safetensors")
    parser.add_argument("--to", default="detectron2", choices=[*LAYOUTS, *ALIASES])
    parser.add_argument("--config-file", help="config whose model the checkpoint must fill")
    args = parser.parse_args(argv)
    try:
        if args.config_file:
            report = fit(args.source, load_config(args.config_file))
            print(report)
            if report.unused or not report.complete:
                print(f"It does not fit {args.config_file}; nothing written.", file=sys.stderr)
                return 1
        conversion = convert_file(args.source, args.target, to=args.to)
    except (ValueError, OSError, ImportError) as error:
        print(f"convert_checkpoint.py: {error}", file=sys.stderr)
        return 1
    print(f"{args.target}: {conversion}")
    for title, names in (("unused", conversion.unused), ("missing", conversion.missing)):
        for name in names:
            print(f"  {title}: {name}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
