import json
import random
import types

import numpy as np
import torch
from detectron2.utils.events import EventStorage, JSONWriter
from torch import nn

from resnest_d2.engine.hooks import TrainingState


def steps(folder, start, end, *, state=None, stop=False):
    """Iterations with a metric in each, one in some, and one evaluation; returns the last state."""
    trainer = types.SimpleNamespace(start_iter=start, iter=start)
    hook = TrainingState(nn.Linear(1, 1), str(folder), loaders=[])
    hook.trainer = trainer
    writer = JSONWriter(str(folder / "metrics.json"))
    with EventStorage(start) as storage:
        trainer.storage = storage
        if state:
            hook.load_state_dict(state)
        hook.restore_metrics(storage, [writer])
        hook.before_train()
        for trainer.iter in range(start, end):
            storage.iter = trainer.iter
            hook.before_step()
            for draw in (random.random, np.random.rand, lambda: torch.rand(()).item()):
                storage.put_scalar(f"loss_{draw}".split()[2], draw())
            if trainer.iter % 9 == 0:
                storage.put_scalar("seldom", np.random.rand())
            saved = hook.state_dict()
            if trainer.iter == 24:
                storage.put_scalar("AP", 30.0, smoothing_hint=False)
            if (trainer.iter + 1) % 20 == 0 or trainer.iter == 24:
                writer.write()
            hook.after_step()
        if stop:
            saved = hook.state_dict()
            writer.write()  # as PeriodicWriter does at the end of every training
        writer.close()
    return json.loads(json.dumps(saved))


def test_metrics_and_random_numbers_go_on(tmp_path):
    np.random.seed(0)
    steps(tmp_path, 0, 70)
    whole = (tmp_path / "metrics.json").read_text()
    for stopped in (3, 23, 24, 26, 40, 45):
        (tmp_path / "metrics.json").unlink()
        np.random.seed(0)
        state = steps(tmp_path, 0, stopped, stop=True)
        assert state["unfinished"] is False
        np.random.seed(1)
        steps(tmp_path, stopped, 70, state=state)
        assert (tmp_path / "metrics.json").read_text() == whole, stopped


def test_a_state_within_the_hooks_has_them_to_do(tmp_path):
    np.random.seed(0)
    state = steps(tmp_path, 0, 25)
    assert state["unfinished"] is True
    lines = (tmp_path / "metrics.json").read_bytes().splitlines(keepends=True)
    early = [line for line in lines if json.loads(line)["iteration"] < 20]
    assert state["metrics_size"] == len(b"".join(early)) and len(early) < len(lines)
    assert "AP" not in state["metrics"] and state["metrics"]["seldom"][2] == [0, 9, 18]


def test_a_batch_that_was_loaded_but_not_trained_on_comes_again(tmp_path):
    hook = TrainingState(nn.Linear(1, 1), str(tmp_path), loaders=[])
    hook.loaders = [types.SimpleNamespace(state=lambda: {"seed": 1, "batches": 9})]  # one ahead
    hook.trainer = types.SimpleNamespace(start_iter=0, iter=7)
    assert hook.state_dict()["loaders"] == [{"seed": 1, "batches": 8}]


def test_an_evaluation_that_was_done_again_counts_once(tmp_path):
    hook = TrainingState(nn.Linear(1, 1), str(tmp_path), loaders=[])
    with EventStorage(2) as storage:
        for iteration, value in ((2, 30.0), (2, 30.0), (5, 31.0)):
            storage.put_scalar("AP", value, smoothing_hint=False, cur_iter=iteration)
    hook.trainer = types.SimpleNamespace(start_iter=0, iter=5, storage=storage)
    assert hook.state_dict()["metrics"]["AP"] == [False, [30.0, 31.0], [2, 5]]


def test_as_many_are_kept_with_an_evaluation_that_was_done_again(tmp_path):
    states = []
    for iterations in ([*range(60)], [*range(40), *range(39, 60)]):
        hook = TrainingState(nn.Linear(1, 1), str(tmp_path), loaders=[])
        with EventStorage() as storage:
            for iteration in iterations:
                storage.put_scalar("AP", iteration / 2, smoothing_hint=False, cur_iter=iteration)
        hook.trainer = types.SimpleNamespace(start_iter=40, iter=59, storage=storage)
        states.append(hook.state_dict()["metrics"])
    assert states[0] == states[1] and states[0]["AP"][2] == [*range(20, 60)]
