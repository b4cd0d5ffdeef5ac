"""Cases of prediction on files: Predictor, and a loop over detectron2's DefaultPredictor."""

from collections.abc import Callable, Iterator, Sequence
from itertools import islice

from detectron2.data.detection_utils import read_image
from detectron2.engine import DefaultPredictor

from resnest_d2 import Predictor
from resnest_d2.deploy import keep_freed_memory, return_freed_memory
from resnest_d2.errors import UserError
from resnest_d2.inference.sources import open_source

from .measure import Case


def prediction_settings(
    model: str,
    source: str,
    *,
    number: int,
    backends: Sequence[str],
    skip: Callable[[str, str], None],
) -> Iterator[list[Case]]:
    """Predicts with each backend, in a loop over the images and with Predictor.

    Args:
        model: name of a detector for Predictor, such as a run's folder.
        source: folder of images.
        number: number of images.
        backends: backends of Predictor.
        skip: called with the name and the reason of a case that cannot be measured.
    """
    paths = [image.path for image in islice(open_source(source).images, number)]
    for name in backends:
        backend, _, precision = name.partition(":")
        options = {"precision": precision or "fp32", "score_threshold": 0.05}  # as evaluated
        try:
            ours = Predictor(model, backend=backend, **options)
        except (ImportError, UserError) as error:
            skip(f"Predictor, {name}", str(error))
            continue
        theirs = DefaultPredictor(ours.cfg)
        theirs.model = ours.model
        setting = {"backend": name, "images": len(paths)}
        memory = return_freed_memory if name == "plain" else keep_freed_memory  # as in use
        yield [
            Case("predict", "DefaultPredictor", setting, _loop(theirs, paths), memory),
            Case("predict", "Predictor", setting, _all(ours, paths), keep_freed_memory),
        ]


def _loop(predictor: DefaultPredictor, paths: list[str]) -> Callable[[], list]:
    return lambda: [predictor(read_image(path, "BGR"))["instances"] for path in paths]


def _all(predictor: Predictor, paths: list[str]) -> Callable[[], list]:
    return lambda: [prediction.instances for prediction in predictor(paths)]
