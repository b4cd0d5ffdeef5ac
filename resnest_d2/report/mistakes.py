"""The detector's mistakes in an image, by kind and class.

Kinds follow TIDE (https://arxiv.org/abs/2008.08115): a detection of the right class that overlaps
its object too little is one that is poorly located, not one missed and one false.

Shapes: D detections, G annotations of an image; D' detections from a score on.
"""

from collections import Counter
from typing import NamedTuple

import numpy as np

from .matching import CROWD, NONE, OVERLAPS, MatchedImage, same_class

KINDS = {
    "missed": "missed",
    "false": "false",
    "confused": "confused",  # found, with another class
    "poor": "poorly located",
}
LEAST = 0.1  # lowest IoU of a poorly located detection, TIDE's


class JudgedImage(NamedTuple):
    """An image, and what its annotations and detections are.

    Attributes:
        matched: the image.
        pairs: index of each detection's annotation at IoU 0.5, NONE or CROWD, (D').
        near: index of the annotation that a poorly located detection is of, else NONE, (D').
        truth: "right", "crowd" or the kind of mistake of each annotation.
        found: the same of each of the D' detections.
    """

    matched: MatchedImage
    pairs: np.ndarray
    near: np.ndarray
    truth: list[str]
    found: list[str]

    @property
    def mistakes(self) -> Counter[str]:
        """Number of mistakes by kind."""
        kinds = [*self.found, *(kind for kind in self.truth if kind == "missed")]
        return Counter(kind for kind in kinds if kind in KINDS)

    @property
    def mistakes_by_class(self) -> dict[int, Counter[str]]:
        """Number of mistakes by kind, for each category; a confusion is one of both classes."""
        counts: dict[int, Counter[str]] = {}
        for annotation, kind in zip(self.matched.truth, self.truth, strict=True):
            if kind in ("missed", "confused"):
                counts.setdefault(annotation["category_id"], Counter())[kind] += 1
        for detection, kind in zip(self.matched.found, self.found, strict=False):
            if kind in KINDS:
                counts.setdefault(detection["category_id"], Counter())[kind] += 1
        return counts


def judge(matched: MatchedImage, threshold: float) -> JudgedImage:
    """Matches detections from a score on to annotations of any class, at IoU 0.5.

    A detection without a match of its own class is matched to an unmatched annotation of another,
    or else, at a lower IoU, to one of its own class.

    Args:
        matched: image with D detections, D' of them at or above the threshold.
        threshold: lowest score.
    """
    number = sum(d["score"] >= threshold for d in matched.found)
    pairs = matched.matches[0, :number].copy()
    near = np.full(number, NONE)
    free = matched.counted
    free[pairs[pairs >= 0]] = False
    same = same_class(matched.found[:number], matched.truth)
    _pair(pairs, free, matched.iou[:number], least=OVERLAPS[0])
    alone = pairs == NONE
    _pair(near, free, np.where(same & alone[:, None], matched.iou[:number], 0), least=LEAST)
    truth = ["crowd" if annotation["iscrowd"] else "missed" for annotation in matched.truth]
    found = ["crowd" if pair == CROWD else "false" for pair in pairs]
    for d, (g, poor) in enumerate(zip(pairs, near, strict=True)):
        if g >= 0:
            truth[g] = found[d] = "right" if same[d, g] else "confused"
        elif poor >= 0:
            truth[poor] = found[d] = "poor"
    return JudgedImage(matched, pairs, near, truth, found)


def _pair(pairs: np.ndarray, free: np.ndarray, iou: np.ndarray, *, least: float) -> None:
    """Gives unmatched detections the free annotations that they overlap most, in place."""
    for d in np.flatnonzero((pairs == NONE) & (iou >= least).any(axis=1)):
        best = int(np.argmax(np.where(free, iou[d], -1)))
        if free[best] and iou[d, best] >= least:
            pairs[d], free[best] = best, False


def mistakes_text(mistakes: Counter[str]) -> str:
    """Number of mistakes of each kind, such as "3 missed, 1 false"."""
    parts = [f"{mistakes[kind]} {words}" for kind, words in KINDS.items() if mistakes[kind]]
    return ", ".join(parts) or "no mistakes"
