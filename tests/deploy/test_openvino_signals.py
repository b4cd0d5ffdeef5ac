"""Ctrl-C after several detectors in OpenVINO: its plugins and Python share a signal stack."""

import subprocess
import sys
from pathlib import Path

import pytest

import resnest_d2

# Two of OpenVINO's models, of which the older one ends first, and a signal that Python handles.
_BACKBONES = """
import gc, signal, torch
from resnest_d2.deploy import optimize_for_inference
from resnest_d2.modeling import ResNeSt

torch.set_num_threads(1)
net, x = ResNeSt(14, res2_channels=32, width=16).eval(), torch.zeros(1, 3, 32, 32)
models = [optimize_for_inference(net, backend="openvino") for _ in range(2)]
for model in models:
    model(x)
del model
while models:
    del models[0]
    gc.collect()
try:
    signal.raise_signal(signal.SIGINT)
except KeyboardInterrupt:
    print("interrupted")
"""


def test_ctrl_c_is_no_segmentation_fault():
    pytest.importorskip("openvino")
    ran = subprocess.run(
        [sys.executable, "-c", _BACKBONES], capture_output=True, text=True, timeout=300
    )
    assert (ran.returncode, ran.stdout) == (0, "interrupted\n"), ran.stderr


def test_the_process_has_one_core():
    package = Path(resnest_d2.__file__).parent
    users = [path.name for path in package.rglob("*.py") if "Core()" in path.read_text()]
    assert users == ["openvino.py"]
