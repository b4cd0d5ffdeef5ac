"""Tests that compare a CUDA GPU with the CPU; without one they are skipped.

float32 is computed in full on both: TensorFloat-32, which convolutions on a GPU use by default, has
10 bits instead of 23.
"""

import pytest
import torch

DEVICE = "cuda"


@pytest.fixture(autouse=True)
def full_float32():
    if DEVICE == "cuda" and not torch.cuda.is_available():
        pytest.skip("needs a CUDA GPU")
    switches = (torch.backends.cudnn, torch.backends.cuda.matmul)
    before = [switch.allow_tf32 for switch in switches]
    for switch in switches:
        switch.allow_tf32 = False
    yield
    for switch, value in zip(switches, before, strict=True):
        switch.allow_tf32 = value


@pytest.fixture
def gpu() -> str:
    """The device that is compared with the CPU."""
    return DEVICE
