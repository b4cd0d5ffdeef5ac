"""Stratified assignment of groups of images to the sides of a split.

A greedy assignment in the order of iterative stratification (Sechidis et al., On the Stratification
of Multi-Label Data, ECML PKDD 2011), with counts of objects instead of labels and groups of images
instead of examples, followed by single moves and exchanges that bring the counts nearer.

Shapes: G groups, S sides, L labels: the classes, then images, then images without objects.
"""

from collections.abc import Callable, Sequence

import numpy as np

_ROUNDS = 20  # of moves over all groups, at most
_PARTNERS = 16  # groups of other sides that each group tries to change places with


def stratify(counts: np.ndarray, shares: Sequence[float], *, seed: int) -> np.ndarray:
    """Assigns groups to sides so that every side has its share of every label.

    Args:
        counts: (G, L) number of objects or images of each label in each group.
        shares: (S,) share of each side, above 0; their sum is 1.
        seed: of the order in which equal groups are taken.

    Returns:
        (G,) index of each group's side.
    """
    counts = np.asarray(counts, float)
    used = counts.sum(0) > 0
    counts = counts[:, used]
    groups_with = (counts > 0).sum(0)  # (L,)
    part = counts / counts.sum(0)  # of each label's total, (G, L)
    weights = 1 + 10 * counts.sum(0) / counts.sum()  # a frequent label moves the others' shares
    wanted = np.asarray(shares, float)[:, None]  # (S, 1)
    possible = groups_with >= len(wanted)  # every side can have this label
    rng = np.random.default_rng(seed)

    def cost(held: np.ndarray) -> np.ndarray:
        """Of shares of the labels that sides hold (..., S, L); of shape (...)."""
        # An absent label costs more than the half that one of two groups with it is.
        uneven = weights * (held - wanted) ** 2 + possible * (held < 1e-12)
        return (uneven / wanted).sum((-2, -1))

    order = _order(part, groups_with, rng)
    sides = np.full(len(counts), -1)
    held = np.zeros((len(wanted), counts.shape[1]))
    every = np.arange(len(wanted))
    for group in order:
        tried = np.repeat(held[None], len(wanted), 0)
        tried[every, every] += part[group]
        sides[group] = cost(tried).argmin()
        held[sides[group]] += part[group]
    for _ in range(_ROUNDS):
        moved = 0
        for group in rng.permutation(len(counts)):
            moved += _improve(group, sides, held, part=part, cost=cost, rng=rng)
        if moved <= len(counts) // 1000:
            break
    return sides


def _order(part: np.ndarray, groups_with: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Groups with the rarest labels first, of these the largest; equal ones by chance."""
    rarest = np.where(part > 0, groups_with, np.inf).min(1)
    return np.lexsort((rng.random(len(part)), -part.max(1), rarest))


def _improve(
    group: int,
    sides: np.ndarray,
    held: np.ndarray,
    *,
    part: np.ndarray,
    cost: Callable[[np.ndarray], np.ndarray],
    rng: np.random.Generator,
) -> bool:
    """Moves a group, or exchanges it, where this lowers the cost; whether it did."""
    own = sides[group]
    partners = rng.integers(len(sides), size=_PARTNERS)
    partners = partners[sides[partners] != own]
    others = np.array([s for s in range(len(held)) if s != own])
    targets = np.concatenate([others, sides[partners]])
    shift = np.repeat(part[group][None], len(targets), 0)  # what leaves the group's side
    shift[len(others) :] -= part[partners]
    tried = np.repeat(held[None], len(targets), 0)
    tried[:, own] -= shift
    tried[np.arange(len(targets)), targets] += shift
    costs = cost(tried)
    best = costs.argmin()
    if costs[best] >= cost(held) - 1e-9:
        return False
    held[own] -= shift[best]
    held[targets[best]] += shift[best]
    sides[group] = targets[best]
    if best >= len(others):
        sides[partners[best - len(others)]] = own
    return True
