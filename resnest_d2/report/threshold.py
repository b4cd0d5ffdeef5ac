"""The score threshold that a report recommends, kept where ``predict`` finds it."""

import json
import math
from collections.abc import Mapping
from pathlib import Path

from resnest_d2.files import whole_file

FILE = "threshold.json"


def keep_thresholds(folder: str, thresholds: Mapping[str, float], weights: str) -> None:
    """Writes ``threshold.json`` into a run's folder.

    Args:
        folder: OUTPUT_DIR of the run.
        thresholds: dataset -> score with the best F1 on it; nothing is written without any.
        weights: which weights these are of.

    Raises:
        WriteError: the file cannot be written.
    """
    if not thresholds:
        return
    # Detectors keep scores above their threshold, not the one that is equal to it.
    below = {name: max(0, math.ceil(1e4 * t) - 1) / 1e4 for name, t in thresholds.items()}
    with whole_file(Path(folder) / FILE, "w") as file:
        json.dump({"thresholds": below, "weights": weights}, file, indent=1)
