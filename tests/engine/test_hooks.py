import json
import logging
import logging.handlers
import sys
import types

import pytest
import torch
from detectron2.utils.events import EventStorage, JSONWriter
from torch import nn

from resnest_d2.checkpoint import ReportingCheckpointer
from resnest_d2.engine.hooks import BestCheckpoint, file_only_printer, set_aside


def run(folder, values, start_iter=0):
    """Train for one step a value, with a weight equal to the iteration."""
    hook = BestCheckpoint("bbox/AP", str(folder))
    model = nn.Linear(1, 1)
    with EventStorage(start_iter) as storage:
        hook.trainer = types.SimpleNamespace(
            storage=storage, start_iter=start_iter, checkpointer=ReportingCheckpointer(model)
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
    assert record == {"metric": "bbox/AP", "value": 30.0, "iteration": 3}
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


def test_an_earlier_run_is_set_aside(tmp_path, caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger("resnest_d2"), "propagate", True)
    caplog.set_level(logging.INFO)
    run(tmp_path, [30.0])
    for name in ("model_final.pth", "last_checkpoint"):
        (tmp_path / name).write_text("model_final.pth")
    writer = JSONWriter(str(tmp_path / "metrics.json"))
    with EventStorage(7) as storage:
        storage.put_scalar("total_loss", 1.0)
        writer.write()
        set_aside(str(tmp_path))
        storage.step()
        storage.put_scalar("total_loss", 2.0)
        writer.write()
    writer.close()
    names = "best.old.json last_checkpoint.old metrics.json metrics.old.json model_best.old.pth"
    left = sorted(path.name for path in tmp_path.iterdir())
    assert left == [*names.split(), "model_final.old.pth"]
    for name, iteration in (("metrics.old.json", 7), ("metrics.json", 8)):
        (line,) = (tmp_path / name).read_text().splitlines()
        assert json.loads(line)["iteration"] == iteration
    assert caplog.text.count("is of an earlier run") == 5


def test_lines_of_metrics_go_to_files_alone(tmp_path):
    logger = logging.getLogger("detectron2")
    file = logging.FileHandler(tmp_path / "log.txt")
    handlers = [logging.StreamHandler(sys.stdout), file]
    for handler in handlers:
        logger.addHandler(handler)
    logger.addHandler(memory := logging.handlers.MemoryHandler(1))  # has no stream
    try:
        kept = file_only_printer(5).logger.handlers
        assert file in kept and memory in kept and handlers[0] not in kept
    finally:
        for handler in (*handlers, memory):
            logger.removeHandler(handler)
            logging.getLogger("resnest_d2.metrics").removeHandler(handler)
        file.close()


def test_a_new_run_in_the_same_folder_does_not(tmp_path):
    run(tmp_path, [30.0])
    assert run(tmp_path, [20.0]) == {"metric": "bbox/AP", "value": 20.0, "iteration": 0}


def test_no_evaluation_no_file(tmp_path):
    with pytest.raises(FileNotFoundError):
        run(tmp_path, [None, None])
