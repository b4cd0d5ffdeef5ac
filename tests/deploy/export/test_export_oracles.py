"""Files of full-size ResNeSt-50 detectors against the detector, on the reference's image.

Minutes for all: RESNEST_D2_EXPORT_ALL=1 pytest -s tests/deploy/export/test_export_oracles.py
"""

import os

import numpy as np
import pytest
import torch
from detectron2.modeling import build_model

from resnest_d2.checkpoint import ReportingCheckpointer
from resnest_d2.deploy.export import export
from resnest_d2.deploy.export.checking import compare
from resnest_d2.deploy.export.formats import FORMATS
from resnest_d2.deploy.export.tracing import EagerDetector, WholeDetector
from resnest_d2.model_zoo import get_config

KINDS = ["faster_rcnn_s50", "mask_rcnn_s50", "cascade_rcnn_s50", "cascade_mask_rcnn_s50"]


@pytest.mark.parametrize("format", ["onnx", "openvino"])
@pytest.mark.parametrize("name", KINDS)
@torch.no_grad()
def test_published_kinds(name, format, oracles, tmp_path):
    pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime" if format == "onnx" else format)
    if not os.environ.get("RESNEST_D2_EXPORT_ALL"):
        pytest.skip("minutes; set RESNEST_D2_EXPORT_ALL to run it")
    oracle = oracles.load(f"mmdet/{name}")
    weights = tmp_path / "published.pth"
    torch.save({"meta": {}, "state_dict": oracles.weights(oracle, seed=0)}, weights)
    cfg = get_config(name)
    cfg.MODEL.DEVICE = "cpu"
    model = build_model(cfg).eval()
    ReportingCheckpointer(model).load(f"resnest+file://{weights}")
    threshold = float(oracle["score_thr"])
    path = tmp_path / f"model{FORMATS[format].suffix}"
    print(export(model, path, format=format, score_threshold=threshold))
    image = np.ascontiguousarray(oracles.image(oracle).transpose(2, 0, 1), np.float32)
    if model.input_format == "BGR":
        image = np.ascontiguousarray(image[::-1])
    run = FORMATS[format].open(path)
    detector = WholeDetector(EagerDetector(model), None)
    for limit in (threshold, 1.0):
        expected = detector(torch.from_numpy(image), torch.tensor(limit))
        difference = compare(image.shape[1:], [e.numpy() for e in expected], run(image, limit))
        print(difference)
        assert difference.small and difference.boxes < 0.1 and difference.scores < 1e-3
        assert (difference.detections > 0) == (limit < 1)
        if limit < 1:
            assert difference.detections == len(oracle["det_boxes"])
