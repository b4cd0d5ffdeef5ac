"""Prediction on a Ray cluster of two nodes on this machine."""

import json
import os
import signal
import sys
import threading
import time

import numpy as np
import psutil
import pytest
from PIL import Image
from small import FASTER, KEYS

from resnest_d2.config import load_config
from resnest_d2.engine import Trainer
from resnest_d2.errors import UserError
from resnest_d2.inference import Predictor

ray = pytest.importorskip("ray")
IMAGES = 12


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The folder of an untrained run, and of images, one of them damaged."""
    import torch

    folder = tmp_path_factory.mktemp("ray")
    cfg = load_config(FASTER, [*KEYS, "MODEL.DEVICE", "cpu", "DATASETS.TRAIN", "()"])
    cfg.DATASETS.TEST = ()
    torch.manual_seed(0)
    model = Trainer.build_model(cfg)
    (folder / "run").mkdir()
    (folder / "run" / "config.yaml").write_text(cfg.dump())
    torch.save({"model": model.state_dict()}, folder / "run" / "model_final.pth")
    (folder / "images").mkdir()
    for number in range(IMAGES):
        pixels = np.random.RandomState(number).randint(0, 255, (48, 64, 3), np.uint8)
        Image.fromarray(pixels).save(folder / "images" / f"{number:02}.png")
    (folder / "images" / "07.png").write_bytes(b"no image")
    return folder


@pytest.fixture(scope="module")
def cluster():
    from ray.cluster_utils import Cluster

    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    options = {"num_cpus": 2, "include_dashboard": False}
    cluster = Cluster(initialize_head=True, head_node_args=options)
    cluster.add_node(num_cpus=2)
    yield cluster
    ray.shutdown()
    cluster.shutdown()


def actors():
    """Processes of the pool."""
    return [p for p in psutil.process_iter(["cmdline"]) if "ShardPredictor" in _line(p)]


def _line(process):
    return " ".join(process.info["cmdline"] or ())


def kill_one(output):
    """Kills an actor when the first shard is there."""
    while not [*output.glob("shard_*.jsonl")]:
        time.sleep(0.05)
    os.kill(actors()[0].pid, signal.SIGKILL)


def test_each_image_is_there_once_where_a_worker_is_killed(run, cluster, tmp_path):
    from resnest_d2.inference.on_ray import predict_on_ray

    output = tmp_path / "out"
    killer = threading.Thread(target=kill_one, args=[output], daemon=True)
    killer.start()
    options = {"address": cluster.address, "shard_size": 2, "score_threshold": 0.01}
    arguments = (str(run / "run"), [str(run / "images")], output)
    done = predict_on_ray(*arguments, **options)
    killer.join(10)
    assert not killer.is_alive()
    assert (done.images, done.before, done.failed) == (IMAGES, 0, 1)
    lines = [line for p in sorted(output.glob("shard_*")) for line in p.read_text().splitlines()]
    records = [json.loads(line) for line in lines]
    assert [record["image_id"] for record in records] == [*range(1, IMAGES + 1)]
    assert sum(len(record["detections"]) for record in records) == done.detections > 0
    assert "07.png" in records[7]["file_name"] and records[7]["error"]

    prediction = Predictor(run / "run", score_threshold=0.01, device="cpu")(records[3]["file_name"])
    expected = [r["bbox"] for r in prediction.to_coco(4)]
    found = [r["bbox"] for r in records[3]["detections"]]
    np.testing.assert_allclose(found, expected, atol=1e-3)

    (output / "shard_00001.jsonl").unlink()
    again = predict_on_ray(*arguments, **options)
    assert (again.images, again.before, again.failed) == (IMAGES, IMAGES - 2, 0)
    assert (output / "shard_00001.jsonl").read_text().splitlines() == lines[2:4]


def test_a_mistake_on_a_machine_is_one_sentence(run, cluster, tmp_path, monkeypatch):
    from resnest_d2.inference import on_ray

    monkeypatch.setattr(on_ray, "__version__", "9.9")
    with pytest.raises(UserError, match=r"^A machine has resnest_d2 [\d.]+, and the job 9\.9\.$"):
        on_ray.predict_on_ray(
            str(run / "run"), [str(run / "images")], tmp_path / "out", address=cluster.address
        )
    assert not [*(tmp_path / "out").glob("shard_*")]


def test_what_selects_detections_tells_jobs_apart(run, tmp_path, monkeypatch):
    from resnest_d2.inference import on_ray

    seen = []

    def open_job(*args, settings, **options):
        seen.append(settings)
        raise UserError("seen")

    monkeypatch.setattr(on_ray, "open_job", open_job)
    given = {"only": ["cat"], "max_detections": 5, "slice_size": 640, "overlap": 0.3}
    for options in ({}, given, {"score_threshold": 0.5}, {"score_threshold": 0.05}):
        with pytest.raises(UserError, match="seen"):
            on_ray.predict_on_ray(str(run / "run"), [], tmp_path / "out", **options)
    default, selecting, same, other = seen
    assert selecting == {**default, **given} and default == same
    assert other["config_sha256"] != default["config_sha256"]


def test_a_mistake_is_one_sentence(run, tmp_path):
    from resnest_d2.inference.on_ray import predict_on_ray

    ray.shutdown()
    with pytest.raises(UserError, match="no Ray cluster at '127.0.0.1:1'"):
        predict_on_ray(
            str(run / "run"), [str(run / "images")], tmp_path / "out", address="127.0.0.1:1"
        )


def test_without_ray_the_extra_is_named(run, tmp_path, monkeypatch):
    from resnest_d2.inference.on_ray import predict_on_ray

    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UserError, match=r"resnest-d2\[ray\]"):
        predict_on_ray(str(run / "run"), [str(run / "images")], tmp_path / "out")
