"""ResNeSt for detectron2: importing this registers its backbones and built-in data sets."""

from importlib.util import find_spec

if find_spec("detectron2") is None:
    raise ImportError(
        "resnest_d2 needs detectron2, which is not installed here. Run "
        "`resnest-d2-install-detectron2` (from a checkout: `python tools/install_detectron2.py`): "
        "it installs detectron2's Python part, no compiler needed. Or build your own: "
        "https://detectron2.readthedocs.io/tutorials/install.html"
    )

from . import model_zoo, modeling
from .config import add_resnest_config, get_cfg, load_config
from .data import register_datasets
from .inference import Predictor
from .version import __version__

__all__ = [
    "__version__",
    "Predictor",
    "add_resnest_config",
    "get_cfg",
    "load_config",
    "model_zoo",
    "modeling",
    "register_datasets",
]
