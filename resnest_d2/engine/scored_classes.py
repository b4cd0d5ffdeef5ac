"""Scores a detector on a file that lacks some of its classes, or has them in another order.

Shapes: K classes of the detector.
"""

from typing import NamedTuple

import torch
from detectron2.data.catalog import Metadata


class ScoredClasses(NamedTuple):
    """Classes of a detector that the annotation file has too, in the order of the file's ids.

    Attributes:
        metadata: the dataset's metadata with these classes alone, numbered from 0.
        names: their names by category id.
        numbers: class of the detector -> its number here, -1 if the file lacks it; (K,).
    """

    metadata: Metadata
    names: dict[int, str]
    numbers: torch.Tensor

    def select(self, output: dict) -> dict:
        """Output of a detector without detections of other classes, the rest numbered as here."""
        if "instances" not in output:
            return output
        instances = output["instances"].to("cpu")
        numbers = self.numbers[instances.pred_classes]
        instances = instances[numbers >= 0]
        instances.pred_classes = numbers[numbers >= 0]
        return {**output, "instances": instances}


def scored_classes(metadata: Metadata) -> ScoredClasses:
    """Classes of a dataset of :func:`resnest_d2.data.register_coco` that can be scored.

    detectron2's evaluator needs ids for all classes, but those that the file lacks have none; and
    without faster-coco-eval it takes the classes to be in the order of the ids.
    """
    index, classes = metadata.thing_dataset_id_to_contiguous_id, metadata.thing_classes
    names = {id_: classes[index[id_]] for id_ in sorted(index)}
    numbers = torch.full((len(classes),), -1)
    numbers[[index[id_] for id_ in names]] = torch.arange(len(names))
    new = {
        "thing_classes": list(names.values()),
        "thing_dataset_id_to_contiguous_id": {id_: i for i, id_ in enumerate(names)},
    }
    return ScoredClasses(Metadata(**{**metadata.as_dict(), **new}), names, numbers)
