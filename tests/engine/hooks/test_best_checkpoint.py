import json
import types

import pytest
import torch
from detectron2.utils.events import EventStorage
from torch import nn

from resnest_d2.checkpoint import ReportingCheckpointer
from resnest_d2.engine.hooks import BestCheckpoint


def run(folder, values, start_iter=0):
    """Train for one step a value, with a weight equal to the iteration."""
    hook = BestCheckpoint("bbox/AP", str(folder))
    model = nn.Linear(1, 1)
    with EventStorage(start_iter) as storage:
        hook.trainer = types.SimpleNamespace(
            storage=storage,
            start_iter=start_iter,
            max_iter=10,
            checkpointer=ReportingCheckpointer(model),
        )
        hook.before_train()
        for iteration, value in enumerate(values, start_iter):
            nn.init.constant_(model.weight, iteration)
            if value is not None:
                storage.put_scalar("bbox/AP", value, smoothing_hint=False)
            hook.after_step()
            storage.step()
    return json.loads((folder / "best.json").read_text())


def kept(folder):
    return torch.load(folder / "model_best.pth", weights_only=True)["model"]["weight"].item()


def test_keeps_the_best(tmp_path):
    record = run(tmp_path, [None, 10.0, float("nan"), 30.0, 20.0])
    found = {"iteration": 3, "trained": 4, "results": {}}
    assert record == {"metric": "bbox/AP", "value": 30.0, **found}
    assert kept(tmp_path) == 3
    assert not list(tmp_path.glob("*.partial"))


def test_a_resumed_run_compares_with_before(tmp_path):
    run(tmp_path, [30.0])
    assert run(tmp_path, [20.0], start_iter=5)["iteration"] == 0 and kept(tmp_path) == 0
    assert run(tmp_path, [40.0], start_iter=9)["iteration"] == 9 and kept(tmp_path) == 9


def test_a_resumed_run_by_another_metric_does_not(tmp_path):
    run(tmp_path, [30.0])
    record = json.loads((tmp_path / "best.json").read_text())
    (tmp_path / "best.json").write_text(json.dumps(record | {"metric": "segm/AP"}))
    assert run(tmp_path, [20.0], start_iter=5)["iteration"] == 5 and kept(tmp_path) == 5


def test_a_new_run_in_the_same_folder_does_not(tmp_path):
    run(tmp_path, [30.0])
    record = run(tmp_path, [20.0])
    assert (record["value"], record["iteration"]) == (20.0, 0)


def test_no_evaluation_no_file(tmp_path):
    with pytest.raises(FileNotFoundError):
        run(tmp_path, [None, None])
