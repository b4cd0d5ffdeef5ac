"""Which detections of an image are kept: of some classes, the best ones."""

import difflib
from collections.abc import Sequence
from typing import NamedTuple

import torch
from detectron2.data.catalog import Metadata
from detectron2.structures import Instances

from resnest_d2.errors import UserError


class Selection(NamedTuple):
    """Indices of the classes that are kept (None for all), and the largest number per image."""

    classes: tuple[int, ...] | None = None
    limit: int | None = None

    def __call__(self, found: Instances) -> Instances:
        """The detections that are kept, in their order of falling score."""
        if self.classes is not None:
            wanted = torch.tensor(self.classes, dtype=torch.long)
            found = found[torch.isin(found.pred_classes, wanted)]
        if self.limit is not None and len(found) > self.limit:
            best = found.scores.argsort(descending=True, stable=True)[: self.limit]
            found = found[best]
        return found


def select(metadata: Metadata, only: Sequence[str], limit: int | None) -> Selection:
    """The selection of some classes by their names.

    Args:
        metadata: names of the classes.
        only: names of the classes to keep; empty for all.
        limit: largest number of detections per image; None for no limit.

    Raises:
        UserError: an unknown name, unknown names of classes, or a limit below 1.
    """
    if limit is not None and limit < 1:
        raise UserError(f"The largest number of detections is {limit}; choose 1 or more.")
    if not only:
        return Selection(None, limit)
    known = list(metadata.get("thing_classes") or ())
    if not known:
        raise UserError("The names of the detector's classes are unknown: pass classes=[...].")
    for name in only:
        if name not in known:
            close = difflib.get_close_matches(name, known, 3) or known[:10]
            raise UserError(f"The detector has no class {name!r}; choose from {', '.join(close)}.")
    return Selection(tuple(i for i, name in enumerate(known) if name in only), limit)
