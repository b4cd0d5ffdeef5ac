"""What the trainer puts together: each part of it is seen at work in a run."""

import json
import logging
from types import SimpleNamespace

import pytest
import torch

from resnest_d2.engine import Trainer, hooks, trainer
from resnest_d2.engine.resumable import Evaluation


def test_a_run_has_all_that_its_config_asks_for(tiny_cfg, tmp_path, caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger("resnest_d2"), "propagate", True)
    caplog.set_level(logging.INFO)
    out = tmp_path / "out"
    out.mkdir()
    (out / "model_best.pth").write_text("of an earlier run")
    (out / "metrics.json").write_text('{"iteration": 900, "total_loss": 7.0}\n')
    keys = {"SOLVER__EPOCHS": 12, "SOLVER__IMS_PER_BATCH": 4, "SOLVER__MAX_ITER": 1000}
    keys |= {"SOLVER__EARLY_STOPPING__ENABLED": True, "SOLVER__EARLY_STOPPING__PATIENCE": 2}
    keys |= {"TEST__EVAL_PERIOD": 1, "TEST__AUG__ENABLED": True, "TEST__AUG__MIN_SIZES": (64,)}
    cfg = tiny_cfg(**keys)
    asked = []
    monkeypatch.setattr(trainer, "wandb_writers", lambda cfg: asked.append(cfg) or [])
    run = Trainer(cfg)
    assert run.max_iter == 6 and [c.OUTPUT_DIR for c in asked] == [str(out)]  # half a batch each
    assert "has 2 images to train on, fewer than a batch" in caplog.text
    run.resume_or_load(resume=False)
    tests = iter([30.0, 20.0, 10.0])

    def falling(*args):
        results = Trainer.test(*args)
        results["segm"] = {"AP": next(tests)}
        return results

    monkeypatch.setattr(run, "test", falling)
    run.train()
    assert "Stopped early after 3 iterations" in caplog.text
    final = torch.load(out / "model_final.pth", weights_only=True)
    assert final["iteration"] == 2
    assert "box, TTA" in (out / "report.html").read_text()
    assert (out / "earlier_1" / "model_best.pth").read_text() == "of an earlier run"
    assert torch.load(out / "model_best.pth", weights_only=True)["iteration"] == 0
    assert '"iteration": 900' in (out / "earlier_1" / "metrics.json").read_text()
    assert '"iteration": 900' not in (out / "metrics.json").read_text()


def test_refuses_keys_that_contradict_before_anything_is_built(tiny_cfg):
    cfg = tiny_cfg(TEST__VALIDATION_LOSS=True, DATASETS__TEST=())
    with pytest.raises(ValueError, match="TEST.VALIDATION_LOSS is True, but DATASETS.TEST"):
        Trainer(cfg)


def test_hooks_stand_in_their_order(tiny_cfg, monkeypatch):
    monkeypatch.setattr(hooks.ProgressBar, "wanted", staticmethod(lambda: True))
    keys = {"MODEL__EMA__ENABLED": True, "TEST__AUG__ENABLED": True, "TEST__VALIDATION_LOSS": True}
    keys |= {"SOLVER__EARLY_STOPPING__ENABLED": True, "TEST__EVAL_PERIOD": 1}
    run = Trainer(tiny_cfg(**keys))
    names = [type(hook).__name__ for hook in run._hooks]
    assert (
        names
        == """
        ProgressBar StepWatch BatchSize IterationTimer WeightAverage LRScheduler
        Checkpoints Evaluation Evaluation Evaluation BestCheckpoint EarlyStopping
        PeriodicWriter ReportHook TrainingState
    """.split()
    )
    plain = Trainer(tiny_cfg(TEST__PRECISE_BN__ENABLED=True, TEST__EVAL_PERIOD=0))
    assert plain.ema is None
    assert (
        [type(hook).__name__ for hook in plain._hooks]
        == """
        ProgressBar StepWatch BatchSize IterationTimer LRScheduler PreciseBN
        Checkpoints Evaluation BestCheckpoint PeriodicWriter ReportHook TrainingState
    """.split()
    )


def test_a_report_is_of_its_evaluation(tiny_cfg, tmp_path, monkeypatch):
    """Its iteration is none in which metrics.json is written anyway."""
    seen, metrics = [], tmp_path / "out" / "metrics.json"

    def note(cfg):
        lines = [json.loads(line) for line in metrics.read_text().splitlines()]
        seen.append([line["iteration"] for line in lines if "bbox/AP" in line])
        assert (tmp_path / "out" / "results.json").exists()

    monkeypatch.setattr(trainer, "report", note)
    cfg = tiny_cfg(MODEL__MASK_ON=False, SOLVER__MAX_ITER=5, TEST__EVAL_PERIOD=2)
    Trainer(cfg).train()
    assert seen == [[1], [1, 3], [1, 3, 5]]


@pytest.mark.parametrize("error", [TypeError, KeyError, AssertionError, MemoryError])
def test_an_error_of_any_kind_leaves_a_checkpoint(error, tiny_cfg, tmp_path, monkeypatch):
    def fail(cfg, model):
        raise error("planted")

    cfg = tiny_cfg(MODEL__MASK_ON=False, SOLVER__MAX_ITER=4, TEST__EVAL_PERIOD=2)
    failing = Trainer(cfg)
    monkeypatch.setattr(failing, "test", fail)
    with pytest.raises(error, match="planted"):
        failing.train()
    saved = torch.load(tmp_path / "out" / "model_0000001.pth", weights_only=False)
    assert saved["trainer"]["iteration"] == 1


@pytest.mark.parametrize(("iteration", "evaluations"), [(9, 0), (10, 1)])
def test_a_run_that_is_stopped_in_its_last_iteration_is_not_evaluated(iteration, evaluations):
    evaluated = []
    hook = Evaluation(0, lambda: evaluated.append(1))
    hook.trainer = SimpleNamespace(iter=iteration, max_iter=10)
    hook.after_train()
    assert len(evaluated) == evaluations
