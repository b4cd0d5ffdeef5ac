"""Cases of prediction on files: Predictor against a loop over detectron2's DefaultPredictor."""

from collections.abc import Callable, Iterator, Sequence
from itertools import islice

from detectron2.data.detection_utils import read_image
from detectron2.engine import DefaultPredictor

from resnest_d2 import Predictor
from resnest_d2.deploy import keep_freed_memory, return_freed_memory
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
    """Each backend by itself: the same detector, one image after the other, and by Predictor.

    Args:
        model: as of Predictor, e.g. the folder of a run.
        source: folder of images.
        number: of them.
        backends: as of Predictor.
        skip: told the name and the reason of what cannot be measured.
    """
    paths = [image.path for image in islice(open_source(source).images, number)]
    for backend in backends:
        try:
            ours = Predictor(model, backend=backend)
        except ImportError as error:
            skip(f"Predictor, {backend}", str(error))
            continue
        theirs = DefaultPredictor(ours.cfg)
        theirs.model = ours.model
        setting = {"backend": backend, "images": len(paths)}
        memory = return_freed_memory if backend == "plain" else keep_freed_memory  # as it is used
        yield [
            Case("predict", "DefaultPredictor", setting, _loop(theirs, paths), memory),
            Case("predict", "Predictor", setting, _all(ours, paths), keep_freed_memory),
        ]


def _loop(predictor: DefaultPredictor, paths: list[str]) -> Callable[[], list]:
    return lambda: [predictor(read_image(path, "BGR"))["instances"] for path in paths]


def _all(predictor: Predictor, paths: list[str]) -> Callable[[], list]:
    return lambda: [prediction.instances for prediction in predictor(paths)]
