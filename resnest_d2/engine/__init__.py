"""Training and evaluation, as used by train_net.py."""

from .evaluation import CocoEvaluator
from .evaluation_request import Evaluation
from .metrics import ap_table
from .processes import joined_group
from .request import Training
from .run import argument_parser, evaluate, launch, run
from .setup import choose_device, setup
from .trainer import Trainer

__all__ = [
    "CocoEvaluator",
    "Evaluation",
    "Trainer",
    "Training",
    "ap_table",
    "argument_parser",
    "choose_device",
    "evaluate",
    "joined_group",
    "launch",
    "run",
    "setup",
]
