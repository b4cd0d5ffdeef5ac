"""Files that take several images of one size at once."""

import pytest
import torch
from same import assert_same_detections

from resnest_d2.deploy.export import FileDetector, ShortestEdge, export

SIZES = {"one size": [(70, 90)] * 3, "one image": [(70, 90)], "other sizes": [(70, 90), (64, 80)]}


def inputs_of(sizes):
    """Images of these sizes, different from one another."""
    generator = torch.Generator().manual_seed(5)
    pixels = [(torch.rand(3, *size, generator=generator) * 255).round() for size in sizes]
    return [{"image": one, "height": 45, "width": 60} for one in pixels]


@pytest.fixture
def runs(monkeypatch):
    """The numbers of images that files were run on, in turn."""
    numbers = []
    load = FileDetector.__init__

    def counting(self, *args, **kwargs):
        load(self, *args, **kwargs)
        run = self._run
        self._run = lambda images, threshold: (numbers.append(len(images)), run(images, threshold))[
            1
        ]

    monkeypatch.setattr(FileDetector, "__init__", counting)
    return numbers


@pytest.mark.parametrize(
    ("detector", "name", "inside"),
    [
        ("faster", "x.onnx", True),
        ("mask", "x.xml", False),
        ("cascade", "x.pt", False),
        ("cascade mask", "x.onnx", False),
        ("agnostic mask", "x.xml", True),
        ("GN", "x.pt", True),
    ],
    indirect=["detector"],
)
@torch.no_grad()
def test_each_image_has_the_detectors_detections(detector, name, inside, tmp_path, runs):
    pytest.importorskip("onnxruntime")
    pytest.importorskip("openvino")
    format = {".onnx": "onnx", ".xml": "openvino", ".pt": "torchscript"}[name[1:]]
    resize = ShortestEdge(64, 128)
    report = export(
        detector, tmp_path / name, format=format, batch=True, resize=resize if inside else None
    )
    assert len(report.differences) == 6  # three images and their mirror images
    file = FileDetector(tmp_path / name, score_threshold=0.05)
    assert file.batch and file.resizes is inside
    number = 0
    for sizes in SIZES.values():
        for one, found in zip(inputs_of(sizes), file(inputs_of(sizes)), strict=True):
            seen = {**one, "image": resize(one["image"]) if inside else one["image"]}
            (expected,) = detector([seen])
            assert_same_detections(found["instances"], expected["instances"])
            number += len(expected["instances"])
    assert number > 60
    assert runs == [3, 1, 1, 1]


@pytest.mark.parametrize("detector", ["mask"], indirect=True)
@torch.no_grad()
def test_quantized_images_are_independent(detector, tmp_path, runs):
    pytest.importorskip("nncf")
    calibration = [one["image"].numpy() for one in inputs_of([(64, 96)] * 2)]
    about = {"format": "openvino", "precision": "int8", "calibration": calibration}
    export(detector, tmp_path / "x.xml", batch=True, **about)
    file = FileDetector(tmp_path / "x.xml", score_threshold=0.05)
    inputs = inputs_of(SIZES["one size"])
    together = file(inputs)
    assert sum(len(one["instances"]) for one in together) > 5
    for one, found in zip(inputs, together, strict=True):
        assert_same_detections(found["instances"], file([one])[0]["instances"])
    assert runs == [3, 1, 1, 1]
