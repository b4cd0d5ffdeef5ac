"""The places at which a map is compared: enough to prove it equal, few enough to keep."""

import numpy as np
import torch


def sample(
    tensor: torch.Tensor, number: int = 2048, *, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Up to ``number`` entries of a tensor at fixed random places, float32, and its shape."""
    flat = tensor.detach().float().reshape(-1).numpy()
    places = np.random.default_rng([7, seed]).integers(0, flat.size, min(number, flat.size))
    return flat[places].astype(np.float32), np.array(tensor.shape)
