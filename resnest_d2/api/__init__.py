"""Training, evaluation and export in Python, as the commands do them."""

from .exporting import export
from .runs import Run, evaluate, train

__all__ = ["Run", "evaluate", "export", "train"]
