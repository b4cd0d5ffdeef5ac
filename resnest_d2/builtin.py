"""What importing resnest_d2 makes known to detectron2.

Its backbones, heads and RPN; the data sets ``shapes_train`` and ``shapes_val``, which are drawn
when they are first used; and ``resnest://`` paths. ``import resnest_d2`` imports this; so does a
command of the command line before it computes.
"""

from detectron2.utils.file_io import PathManager

from resnest_d2 import modeling  # noqa: F401
from resnest_d2.checkpoint import WeightsHandler, set_published
from resnest_d2.data.shapes import register_shapes
from resnest_d2.model_zoo.table import find_model, published_at

register_shapes()
set_published(published_at)
PathManager.register_handler(
    WeightsHandler(lambda name: find_model(name).origin), allow_override=True
)
