"""What ``import resnest_d2`` registers, and what it imports for that."""

import subprocess
import sys

import pytest

AFTER = """
import sys, warnings
warnings.simplefilter("ignore")
import detectron2.modeling
before = set(sys.modules)
import resnest_d2
print(*{name for name in sys.modules if name not in before})
"""
REGISTERED = """
import warnings
warnings.simplefilter("ignore")
import resnest_d2
from detectron2.data import DatasetCatalog
from detectron2.modeling import BACKBONE_REGISTRY, PROPOSAL_GENERATOR_REGISTRY, ROI_HEADS_REGISTRY
from detectron2.modeling.roi_heads import ROI_BOX_HEAD_REGISTRY
from detectron2.utils.file_io import PathManager
assert "build_resnest_fpn_backbone" in BACKBONE_REGISTRY
assert "CascadeMaskROIHeads" in ROI_HEADS_REGISTRY
assert "CheckpointConvFCHead" in ROI_BOX_HEAD_REGISTRY
assert "TwoSidedRPN" in PROPOSAL_GENERATOR_REGISTRY
assert {"shapes_train", "shapes_val"} <= set(DatasetCatalog.list())
try:
    PathManager.get_local_path("resnest://faster_rcn_s50")
except ValueError as error:
    print(error)
"""


def run(code):
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def imported():
    """Modules that importing the package adds to those of detectron2.modeling."""
    return set(run(AFTER).split())


@pytest.mark.parametrize("name", ["cv2", "matplotlib", "pycocotools", "jinja2", "typer", "onnx"])
def test_import_brings_no_package_of_the_workbench(name, imported):
    assert not [module for module in imported if module.split(".")[0] == name]


@pytest.mark.parametrize("part", ["deploy", "report", "engine", "inference", "cli"])
def test_import_brings_no_part_of_the_workbench(part, imported):
    assert "resnest_d2.modeling" in imported
    assert not [module for module in imported if module.startswith(f"resnest_d2.{part}")]


def test_import_registers_everything():
    assert "close names: faster_rcnn_s50" in run(REGISTERED)
