"""ResNeSt for detectron2: importing this registers its backbones and built-in data sets.

All other names are imported when they are first used.
"""

import sys
from importlib.util import find_spec
from typing import TYPE_CHECKING

from .compat.detectron import why_unsupported
from .errors import MissingPackageError
from .lazy import lazy_names
from .version import __version__

if TYPE_CHECKING:
    from . import model_zoo, modeling
    from .api import Run, evaluate, export, train
    from .config import add_resnest_config, get_cfg, load_config
    from .data import register_datasets
    from .deploy import optimize_for_inference
    from .engine import Trainer
    from .inference import Predictor
    from .model_zoo import get_backbone, list_models
    from .modeling import ResNeSt

if find_spec("detectron2") is None:
    raise ImportError(
        "resnest_d2 needs detectron2, which is not installed here. Run "
        "`resnest-d2-install-detectron2` (from a checkout: `python tools/install_detectron2.py`): "
        "it installs detectron2's Python part, no compiler needed. Or build your own: "
        "https://detectron2.readthedocs.io/tutorials/install.html",
        name="detectron2",
    )

if reason := why_unsupported():
    raise MissingPackageError(reason)

__all__ = [
    "Predictor",
    "ResNeSt",
    "Run",
    "Trainer",
    "__version__",
    "add_resnest_config",
    "evaluate",
    "export",
    "get_backbone",
    "get_cfg",
    "list_models",
    "load_config",
    "model_zoo",
    "modeling",
    "optimize_for_inference",
    "register_datasets",
    "train",
]
__getattr__, __dir__ = lazy_names(
    __name__,
    {
        ".": ("model_zoo", "modeling"),
        ".api": ("Run", "evaluate", "export", "train"),
        ".config": ("add_resnest_config", "get_cfg", "load_config"),
        ".data": ("register_datasets",),
        ".deploy": ("optimize_for_inference",),
        ".engine": ("Trainer",),
        ".inference": ("Predictor",),
        ".model_zoo": ("get_backbone", "list_models"),
        ".modeling": ("ResNeSt",),
    },
)

# The installed command registers before it computes: its help must not wait for torch.
if not getattr(sys.modules.get("resnest_d2_command"), "registers_later", False):
    from . import builtin  # noqa: F401
