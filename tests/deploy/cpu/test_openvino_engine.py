"""OpenVINO's streams: images that threads compute at the same time do not wait for each other."""

import pytest
import torch
from detectors import images
from same import assert_same_detections

from resnest_d2.deploy import optimize_for_inference
from resnest_d2.deploy.cpu import openvino_engine
from resnest_d2.deploy.export import FileDetector, export
from resnest_d2.inference.stream import worker_pool


@pytest.fixture
def compiled(monkeypatch):
    """Streams and threads of what is compiled, while torch has two threads."""
    pytest.importorskip("openvino")
    core, found = openvino_engine.openvino_core(), []

    class Core:
        read_model = core.read_model

        def compile_model(self, *args):
            model = core.compile_model(*args)
            names = ("NUM_STREAMS", "INFERENCE_NUM_THREADS")
            found.append(tuple(int(model.get_property(name)) for name in names))
            return model

    monkeypatch.setattr(openvino_engine, "openvino_core", Core)
    own = torch.get_num_threads()
    torch.set_num_threads(2)
    yield found
    torch.set_num_threads(own)


@torch.no_grad()
def assert_in_streams(fast, detector, compiled):
    """Threads that compute two images at once have a stream each, one thread alone has all."""
    compiled.clear()
    batches = [[one] for one in images()]
    with worker_pool(2) as pool:  # the first run: its threads are not all that there are
        threads = list(pool.map(torch.no_grad()(fast), batches))
    assert compiled == [(2, 2)]
    for batch, (found,) in zip(batches, threads, strict=True):
        (alone,) = fast(batch)
        (expected,) = detector(batch)
        assert len(expected["instances"]) > 5
        assert_same_detections(found["instances"], expected["instances"])
        assert_same_detections(alone["instances"], expected["instances"])
    assert compiled == [(2, 2), (1, 2)]


@pytest.mark.parametrize("detector", ["mask"], indirect=True)
def test_of_a_backbone(detector, compiled):
    fast = optimize_for_inference(detector, backend="openvino")
    assert_in_streams(fast, detector, compiled)


@pytest.mark.parametrize("detector", ["mask"], indirect=True)
def test_of_a_file(detector, compiled, tmp_path):
    pytest.importorskip("onnx")
    path = tmp_path / "x.xml"
    export(detector, path, format="openvino")
    assert_in_streams(FileDetector(path, score_threshold=0.05), detector, compiled)
