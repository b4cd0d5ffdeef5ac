"""The kinds of detectors, small."""

import pytest
import torch
from detectors import KINDS, randomise, set_kind
from detectron2.modeling import build_model


@pytest.fixture(params=KINDS)
def detector(request, rcnn_cfg):
    """A detector of every kind; ``model.cfg`` is its config."""
    cfg = set_kind(rcnn_cfg, request.param)
    torch.manual_seed(getattr(request.module, "SEED", 0))  # before the weights are drawn, too
    model = randomise(build_model(cfg))
    model.cfg = cfg
    return model
