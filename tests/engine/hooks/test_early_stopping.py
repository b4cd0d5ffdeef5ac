import types

import pytest
from detectron2.utils.events import EventStorage

from resnest_d2.engine.hooks import BestCheckpoint, EarlyStop, EarlyStopping


def stops_after(folder, values, *, patience, period=2, start_iter=0, max_iter=100):
    """Iterations done when it stops; None if it does not. An evaluation every two iterations."""
    best = BestCheckpoint("bbox/AP", str(folder))
    stopping = EarlyStopping(best, patience=patience, period=period)
    saver = types.SimpleNamespace(save_weights=lambda path, iteration: None)
    trainer = types.SimpleNamespace(start_iter=start_iter, max_iter=max_iter, checkpointer=saver)
    best.trainer = stopping.trainer = trainer
    with EventStorage(start_iter) as trainer.storage:
        best.before_train()
        for trainer.iter in range(start_iter, start_iter + period * len(values)):
            done = trainer.iter + 1
            if done % period == 0:
                value = values[(done - start_iter) // period - 1]
                trainer.storage.put_scalar("bbox/AP", value, smoothing_hint=False)
            best.after_step()
            try:
                stopping.after_step()
            except EarlyStop:
                return done
            trainer.storage.step()
    return None


@pytest.mark.parametrize(
    ("values", "patience", "expected"),
    [
        ([1, 2, 3, 4], 1, None),
        ([5, 4, 6, 5, 5, 5], 3, 12),
        ([5, 4, 6], 1, 4),
        ([5, 5], 1, 4),  # equal is not better
        ([float("nan")] * 4, 2, None),  # nothing to compare
    ],
)
def test_stops_when_nothing_is_better(values, patience, expected, tmp_path):
    assert stops_after(tmp_path, values, patience=patience) == expected


def test_counts_on_in_a_resumed_run(tmp_path):
    assert stops_after(tmp_path, [5, 4], patience=3) is None
    assert stops_after(tmp_path, [4, 4], patience=3, start_iter=4) == 8


def test_leaves_the_end_to_the_end(tmp_path):
    assert stops_after(tmp_path, [5, 4], patience=1, max_iter=4) is None
