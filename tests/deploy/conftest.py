"""The kinds of detectors, small."""

import pytest
from detectors import KINDS, randomise, set_kind
from detectron2.modeling import build_model


@pytest.fixture(params=KINDS)
def detector(request, rcnn_cfg):
    """A detector of every kind; ``model.cfg`` is its config."""
    cfg = set_kind(rcnn_cfg, request.param)
    model = randomise(build_model(cfg))
    model.cfg = cfg
    return model
