from pathlib import Path
from types import SimpleNamespace

import pytest

from resnest_d2.engine.hooks import Checkpoints, checkpoints


class Saves:
    """A checkpointer that only writes names."""

    def __init__(self, folder):
        self.save_dir = str(folder)

    def save(self, name, iteration):
        Path(self.save_dir, f"{name}.pth").write_text(str(iteration))


@pytest.fixture
def train(tmp_path, monkeypatch):
    """A function that runs the hook, each iteration taking so many seconds; names what is left."""
    clock = SimpleNamespace(now=0.0)
    monkeypatch.setattr(checkpoints.time, "monotonic", lambda: clock.now)

    def run(iterations, *, start=0, seconds=1.0, period=100, minutes=0, keep=0):
        hook = Checkpoints(Saves(tmp_path), period=period, minutes=minutes, keep=keep)
        hook.trainer = SimpleNamespace(max_iter=iterations)
        hook.before_train()
        for hook.trainer.iter in range(start, iterations):
            clock.now += seconds
            hook.after_step()
        return sorted(path.stem.removeprefix("model_") for path in tmp_path.iterdir())

    return run


def test_saves_after_every_period_and_at_the_end(train):
    assert train(7, period=3) == ["0000002", "0000005", "final"]


def test_the_last_iteration_is_the_final_one_only(train):
    assert train(6, period=3) == ["0000002", "final"]


def test_saves_when_the_last_one_is_old(train):
    # Every 15 minutes at 400 s an iteration is after three of them; a period starts the clock too.
    assert train(9, seconds=400, minutes=15, period=4) == [
        "0000002",
        "0000003",
        "0000006",
        "0000007",
        "final",
    ]


def test_keeps_the_last_ones_also_of_a_resumed_run(train, tmp_path):
    (tmp_path / "model_best.pth").write_text("")
    assert train(4, period=1, keep=3) == ["0000000", "0000001", "0000002", "best", "final"]
    left = train(7, start=4, period=1, keep=2)
    assert left == ["0000004", "0000005", "best", "final"]
