"""Training and evaluation: what train_net.py is made of."""

from .evaluation import CocoEvaluator, ap_table
from .run import evaluate, run
from .setup import setup
from .trainer import Trainer

__all__ = ["CocoEvaluator", "Trainer", "ap_table", "evaluate", "run", "setup"]
