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


def in_threads(function, inputs):
    """Results of a Predictor's threads, which compute two inputs at the same time."""
    with worker_pool(2) as pool, torch.no_grad():
        return list(pool.map(torch.no_grad()(function), inputs))


@pytest.mark.parametrize("detector", ["mask"], indirect=True)
@torch.no_grad()
def test_of_a_backbone(detector, compiled):
    model = optimize_for_inference(detector, backend="openvino")
    batches = [[one] for one in images()]
    threads = in_threads(model, batches)  # the first run: its threads are not all that there are
    assert compiled == [(2, 2)]
    for batch, (found,) in zip(batches, threads, strict=True):
        (alone,) = model(batch)
        (expected,) = detector(batch)
        assert len(expected["instances"]) > 5
        assert_same_detections(found["instances"], expected["instances"])
        assert_same_detections(alone["instances"], expected["instances"])
    assert compiled == [(2, 2), (1, 2)]


@pytest.mark.parametrize("detector", ["mask"], indirect=True)
@torch.no_grad()
def test_of_a_file(detector, compiled, tmp_path):
    pytest.importorskip("onnx")
    path = tmp_path / "x.xml"
    export(detector, path, format="openvino")
    compiled.clear()  # what the export checked
    file = FileDetector(path, score_threshold=0.05)
    batches = [[one] for one in images()]
    threads = in_threads(file, batches)
    assert compiled == [(2, 2)]
    for batch, (found,) in zip(batches, threads, strict=True):
        (expected,) = detector(batch)
        assert len(expected["instances"]) > 5
        assert_same_detections(found["instances"], expected["instances"])
    file(batches[0])
    assert compiled == [(2, 2), (1, 2)]
