#!/usr/bin/env python3
"""Train or evaluate a detector with ResNeSt.

Train:     ./train_net.py --config-file configs/quick_schedules/mask_rcnn_ResNeSt_14_FPN_quick.yaml
Resume:    the same with --resume
Evaluate:  the same with --eval-only MODEL.WEIGHTS output/model_final.pth
"""

import functools
import sys
from collections.abc import Sequence

from resnest_d2.engine import argument_parser, launch
from resnest_d2.errors import run_program

EPILOG = """
examples:
  your own data, boxes only:
    train_net.py --config-file quick_schedules/faster_rcnn_ResNeSt_14_FPN_quick.yaml \\
      DATASETS.COCO '[["train", "train.json", "images"], ["val", "val.json", "images"]]' \\
      DATASETS.TRAIN '("train",)' DATASETS.TEST '("val",)' OUTPUT_DIR output/mine
  the published recipe on 8 GPUs:
    train_net.py --config-file configs/COCO-Detection/faster_rcnn_ResNeSt_50_FPN_1x.yaml \\
      --num-gpus 8
  evaluate a checkpoint:
    train_net.py --eval-only --config-file ... MODEL.WEIGHTS output/model_best.pth
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Exit code of a run; an error ends in a sentence, its traceback in the log."""
    args = argument_parser(EPILOG).parse_args(argv)
    return run_program(functools.partial(launch, args), name="train_net.py", debug=args.debug)


if __name__ == "__main__":
    sys.exit(main())
