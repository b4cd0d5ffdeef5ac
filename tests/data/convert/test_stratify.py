"""Sides get their shares of every label."""

import numpy as np
import pytest

from resnest_d2.data.convert.stratify import stratify


def made_counts(number, seed=0):
    """Objects of six classes, the rarest 160 times rarer, 1, and 1 without objects."""
    rng = np.random.default_rng(seed)
    mean = np.array([8, 3, 1, 0.5, 0.2, 0.05]) * rng.gamma(1, 1, (number, 1))
    objects = rng.poisson(mean)
    ones = np.ones((number, 1))
    return np.hstack([objects, ones, objects.sum(1, keepdims=True) == 0])


@pytest.mark.parametrize("number", [100, 1000])
@pytest.mark.parametrize("shares", [(0.8, 0.2), (0.7, 0.2, 0.1), (0.2,) * 5])
def test_class_shares_are_within_two_points(number, shares):
    counts = made_counts(number)
    sides = stratify(counts, shares, seed=3)
    objects = counts[:, :6]
    whole = objects.sum(0) / objects.sum()
    for side, share in enumerate(shares):
        own = objects[sides == side]
        assert np.abs(own.sum(0) / own.sum() - whole).max() < 0.02
        # So are the shares of images and of images without objects.
        assert (sides == side).sum() == pytest.approx(share * number, abs=0.02 * number)
        assert counts[sides == side, 7].sum() == pytest.approx(share * counts[:, 7].sum(), abs=1)


def test_a_rare_class_is_on_every_side_that_it_can_be_on():
    counts = np.ones((40, 3), int)
    counts[:, 1] = 0
    counts[:2, 1] = 1
    for seed in range(5):
        sides = stratify(counts, (0.9, 0.1), seed=seed)
        assert sorted(sides[:2]) == [0, 1] and (sides == 1).sum() == 4
    counts[1, 1] = 0  # in a single image, which is to be trained on
    assert stratify(counts, (0.9, 0.1), seed=0)[0] == 0


def test_the_seed_decides():
    counts = made_counts(200)
    first, same, other = (stratify(counts, (0.8, 0.2), seed=seed) for seed in (1, 1, 2))
    assert (first == same).all() and (first != other).any()


def test_a_large_group_and_labels_without_objects():
    counts = np.zeros((5, 4))
    counts[:, 2] = [60, 10, 10, 10, 10]
    counts[:, 0] = 2 * counts[:, 2]
    sides = stratify(counts, (0.8, 0.2), seed=0)
    assert sides[0] == 0 and (sides == 1).sum() == 2
