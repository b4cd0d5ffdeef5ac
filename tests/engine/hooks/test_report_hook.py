"""A report is of the evaluation that asked for it, with its numbers in metrics.json."""

import json
import types

from detectron2.engine import hooks as d2_hooks
from detectron2.utils.events import EventStorage, JSONWriter

from resnest_d2.engine.hooks import ReportHook


def reports(folder, *, steps, evaluations, max_iter, fails_after=None):
    """What metrics.json has of AP when each report is written.

    Evaluations are in the steps given, and one more after training where max_iter is reached.
    """
    path, seen = folder / "metrics.json", []

    def write_report():
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        seen.append([(x["iteration"], x["AP"]) for x in lines if "AP" in x])

    writers = [JSONWriter(str(path))]
    report = ReportHook(write_report, writers=writers)
    hooks = [d2_hooks.PeriodicWriter(writers, period=20), report]
    trainer = types.SimpleNamespace(max_iter=max_iter)

    def evaluate(value):
        trainer.storage.put_scalar("AP", value, smoothing_hint=False)
        report.ask()

    with EventStorage(0) as trainer.storage:
        for hook in hooks:
            hook.trainer = trainer
        for trainer.iter in range(steps):
            trainer.storage.iter = trainer.iter
            trainer.storage.put_scalar("total_loss", 1.0)
            if trainer.iter in evaluations:
                evaluate(10.0 + trainer.iter)
            for hook in hooks:
                hook.after_step()
        if steps == max_iter:
            trainer.storage.iter = trainer.iter = max_iter
            evaluate(99.0)
        for hook in hooks:
            hook.after_train()
    return seen


def test_each_has_its_own_evaluation_and_all_before(tmp_path):
    # None of them in an iteration in which metrics.json is written anyway.
    assert reports(tmp_path, steps=8, evaluations=(2, 5), max_iter=8) == [
        [(2, 12.0)],
        [(2, 12.0), (5, 15.0)],
        [(2, 12.0), (5, 15.0), (8, 99.0)],
    ]


def test_a_run_that_is_cut_short_has_none_without_an_evaluation(tmp_path):
    assert reports(tmp_path, steps=4, evaluations=(), max_iter=8) == []


def test_what_was_asked_for_is_written_where_the_step_does_not_end(tmp_path):
    """As where early stopping ends the loop before the hooks behind it."""
    seen = []
    hook = ReportHook(lambda: seen.append(1), writers=[])
    hook.ask()
    hook.after_train()
    hook.after_train()
    assert seen == [1]
