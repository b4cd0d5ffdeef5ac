"""Training and evaluation: what train_net.py is made of."""

from .evaluation import CocoEvaluator, ap_table
from .run import argument_parser, evaluate, launch, run
from .setup import choose_device, setup
from .trainer import Trainer

__all__ = [
    "CocoEvaluator",
    "Trainer",
    "ap_table",
    "argument_parser",
    "choose_device",
    "evaluate",
    "launch",
    "run",
    "setup",
]
