#!/usr/bin/env python3
"""Train or evaluate a detector with ResNeSt.

Train:     ./train_net.py --config-file configs/quick_schedules/mask_rcnn_ResNeSt_14_FPN_quick.yaml
Resume:    the same with --resume
Evaluate:  the same with --eval-only MODEL.WEIGHTS output/model_final.pth
"""

import functools
import os
import sys
import warnings
from collections.abc import Sequence

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
    # Threads that wait for others soon sleep, see "A busy machine" in docs/training.md. OpenMP's
    # library reads these when torch loads it; GNU's has the second. What the user has set is kept.
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
        os.environ.setdefault("GOMP_SPINCOUNT", "4000")
    # detectron2's and its like's use of what torch has called old; no user can help it
    warnings.filterwarnings("ignore", message=r"`torch\.jit\.script` is deprecated")
    from resnest_d2.engine import argument_parser, launch
    from resnest_d2.errors import run_program

    args = argument_parser(EPILOG).parse_args(argv)
    return run_program(functools.partial(launch, args), name="train_net.py", debug=args.debug)


if __name__ == "__main__":
    sys.exit(main())
