"""The score threshold of a prediction: what was given, a run's recommended one, or 0.5."""

import os
from collections.abc import Sequence
from typing import NamedTuple

from detectron2.config import CfgNode

from resnest_d2.config import load_config
from resnest_d2.errors import UserError
from resnest_d2.files import read_json
from resnest_d2.model_zoo import find_detector

DEFAULT = 0.5
FILE = "threshold.json"  # in a run's folder, written with its report
KEYS = ("MODEL.ROI_HEADS.SCORE_THRESH_TEST", "MODEL.RETINANET.SCORE_THRESH_TEST")


class Threshold(NamedTuple):
    """A score threshold, and the sentence on where it is from.

    Attributes:
        value: lowest score of a detection; None for that of the config.
        note: the sentence.
    """

    value: float | None
    note: str


def choose_threshold(
    model: str | os.PathLike | CfgNode,
    *,
    given: float | None = None,
    weights: str | os.PathLike | None = None,
    opts: Sequence = (),
) -> Threshold:
    """Chooses the score threshold of a prediction.

    Args:
        model: see :class:`Predictor`.
        given: threshold that was asked for; None for the recommended one.
        weights: other weights than the model's own, of which no threshold is known.
        opts: overrides ``[key, value, ...]`` of the config, which may set the threshold.

    Raises:
        UserError: the run's file of thresholds has other contents; or as :func:`find_detector`.
    """
    if given is not None:
        return Threshold(given, f"Score threshold {given:g}, as given.")
    if key := next((key for key in KEYS if key in opts[::2]), None):
        return Threshold(None, f"Score threshold of {key}, as given.")
    run = None
    if not (isinstance(model, CfgNode) or weights or "MODEL.WEIGHTS" in opts[::2]):
        found = find_detector(os.fspath(model))
        run = found.run
    if run and os.path.isfile(path := os.path.join(run, FILE)):
        names = load_config(found.config).DATASETS.TEST
        value, about = _read(path, names)
        note = f"Score threshold {value:g}, which the report of {run} recommends ({about})."
        return Threshold(value, note)
    return Threshold(DEFAULT, f"Score threshold {DEFAULT:g}, the default.")


def _read(path: str, names: Sequence[str]) -> tuple[float, str]:
    """The threshold on the first of the datasets, else of the file, and the weights it is of."""
    content = read_json(path)
    found = content.get("thresholds") if isinstance(content, dict) else None
    thresholds = found if isinstance(found, dict) else {}
    fractions = [isinstance(v, int | float) and 0 <= v <= 1 for v in thresholds.values()]
    if not (thresholds and all(fractions)):
        raise UserError(f"{path} has no score thresholds from 0 to 1; delete it, or give one.")
    name = next((name for name in names if name in thresholds), next(iter(thresholds)))
    return float(thresholds[name]), f"best F1 on {name}, {content.get('weights') or 'its weights'}"
