"""Random numbers that follow from a key of integers, so that nothing of them has to be saved."""

import contextlib
import random
from collections.abc import Iterator

import numpy as np
import torch


def _seeds(key: tuple[int, ...]) -> tuple[np.ndarray, int, int]:
    words = np.random.SeedSequence(key).generate_state(8)  # 32 bits each
    first, second = (int(a) << 31 | int(b) >> 1 for a, b in words[4:].reshape(2, 2))
    return words[:4], first, second


def seed_generators(*key: int) -> None:
    """Seeds numpy, Python and torch, on all devices.

    Args:
        key: integers from 0 on; another key gives independent numbers.
    """
    for_numpy, for_python, for_torch = _seeds(key)
    np.random.seed(for_numpy)
    random.seed(for_python)
    torch.manual_seed(for_torch)


@contextlib.contextmanager
def own_random_numbers(*key: int) -> Iterator[None]:
    """Random numbers of numpy, Python and torch's CPU from a key; those outside are as before.

    Args:
        key: see :func:`seed_generators`.
    """
    before = np.random.get_state(), random.getstate(), torch.get_rng_state()
    for_numpy, for_python, for_torch = _seeds(key)
    np.random.seed(for_numpy)
    random.seed(for_python)
    torch.default_generator.manual_seed(for_torch)  # not the generators of GPUs
    try:
        yield
    finally:
        np.random.set_state(before[0])
        random.setstate(before[1])
        torch.set_rng_state(before[2])
