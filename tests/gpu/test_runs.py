"""Whole runs on a GPU: mixed precision, hooks, resuming, prediction, and a group of processes."""

import json
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from same import assert_same_detections
from small import FASTER, KEYS, data_keys, forget_logs, write_data

from resnest_d2 import Predictor, load_config
from resnest_d2.engine import Trainer

ROOT = Path(__file__).parents[2]
MASK = FASTER.replace("faster", "mask")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    write_data(folder)
    return folder


def config(data, output, gpu, **keys):
    opts = [*KEYS, *data_keys(data, f"gpu_{output.name}"), "OUTPUT_DIR", str(output)]
    opts += ["MODEL.DEVICE", gpu, "SOLVER.BASE_LR", 0.02, "TEST.EVAL_PERIOD", 0]
    for key, value in keys.items():
        opts += [key.replace("__", "."), value]
    output.mkdir(exist_ok=True)
    return load_config(MASK, opts)


def test_mixed_precision_training_is_resumed_and_predicts(data, tmp_path, gpu):
    keys = {
        "SOLVER__AMP__ENABLED": True,
        "MODEL__EMA__ENABLED": True,
        "TEST__VALIDATION_LOSS": True,
    }
    output = tmp_path / "run"
    cfg = config(data, output, gpu, SOLVER__MAX_ITER=20, **keys)
    trainer = Trainer(cfg)
    trainer.train()
    assert next(trainer.model.parameters()).device.type == gpu
    assert {p.dtype for p in trainer.model.parameters()} == {torch.float32}
    resumed = Trainer(config(data, output, gpu, SOLVER__MAX_ITER=22, **keys))
    resumed.resume_or_load(resume=True)
    assert resumed.start_iter == 20
    resumed.train()
    lines = [json.loads(line) for line in (output / "metrics.json").read_text().splitlines()]
    losses = [line["total_loss"] for line in lines if "total_loss" in line]
    assert all(map(math.isfinite, losses)) and losses[-1] < losses[0]
    assert any("segm/AP" in line for line in lines)
    (output / "config.yaml").write_text(cfg.dump())
    image = str(data / "images" / sorted(os.listdir(data / "images"))[0])
    predicted = {
        device: next(iter(Predictor(str(output), device=device, score_threshold=0.0)([image])))
        for device in (gpu, "cpu")
    }
    found, expected = (predicted[device].instances for device in (gpu, "cpu"))
    assert len(expected) > 10 and found.pred_masks.device.type == "cpu"
    assert_same_detections(found, expected)
    forget_logs()


def test_torchrun_with_one_process(data, tmp_path, gpu):
    program = [*"-m torch.distributed.run --standalone --nproc-per-node 1".split(), "train_net.py"]
    opts = [*KEYS, *data_keys(data, "gpu_torchrun"), "MODEL.DEVICE", gpu]
    opts += ["OUTPUT_DIR", str(tmp_path / "run"), "TEST.PRECISE_BN.ENABLED", True]
    command = [sys.executable, *program, "--config-file", FASTER, *map(str, opts)]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr[-3000:]
    assert (tmp_path / "run" / "model_final.pth").is_file()


IN_A_GROUP = """
import sys, torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel
from resnest_d2.engine.cluster import Group
from resnest_d2.engine.processes import membership
from resnest_d2.layers import adapt_sync_norms
from resnest_d2.modeling import ResNeSt

device, url = sys.argv[1:]
torch.manual_seed(0)
torch.set_default_dtype(torch.float64)
small = {"res2_channels": 64, "width": 16, "activation_checkpoint": "block"}
plain = ResNeSt(14, norm="BN", **small).train().to(device)
x = torch.randn(2, 3, 64, 64, device=device)
with membership(Group(0, 1, 0, url, "torchrun")):
    print(dist.get_backend())
    model = adapt_sync_norms(ResNeSt(14, norm="SyncBN", **small)).train().to(device)
    model.load_state_dict(plain.state_dict())
    parallel = DistributedDataParallel(model, device_ids=[0] if device == "cuda" else None)
    for net in (plain, parallel):
        sum(v.square().mean() for v in net(x).values()).backward()
    for (name, p), q in zip(plain.named_parameters(), model.parameters(), strict=True):
        if q.grad is not None:
            torch.testing.assert_close(q.grad, p.grad, msg=name)
            done = True
    print("equal", done)
"""


def test_a_group_of_one_process_computes_the_same_gradients(tmp_path, gpu):
    command = [sys.executable, "-c", IN_A_GROUP, gpu, f"file://{tmp_path}/store"]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert run.stdout.split() == ["nccl" if gpu == "cuda" else "gloo", "equal", "True"], run.stderr
