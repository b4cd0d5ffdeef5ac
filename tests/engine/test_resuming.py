"""A run that was killed and resumed is the run that was left alone, to the bit."""

import copy
import logging
import signal
import sys
from pathlib import Path

import pytest
import torch
from detectron2.engine import AMPTrainer

from resnest_d2.engine import Trainer

sys.path.insert(0, str(Path(__file__).parents[2] / "tools"))

import kill_runs
from kill_runs import SMALL, Kill, differences, train, write_data

# Seven iterations with evaluations after the second, fourth, sixth and at the end.
SHORT = ["SOLVER.MAX_ITER", 7, "TEST.EVAL_PERIOD", 2, "SOLVER.CHECKPOINT_PERIOD", 3]
KILLS = [
    Kill(signal.SIGKILL, "writing", 2, 0.0),  # while model_best.pth or a checkpoint is written
    Kill(signal.SIGTERM, "evaluating", 2, 0.05),
    Kill(signal.SIGKILL, "training", 2, 0.0),
]


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no such signals")
def test_three_kills_change_nothing(tmp_path):
    opts = [*SMALL, *SHORT, *write_data(tmp_path / "data", images=4)]
    config = kill_runs.CONFIGS["mask"]

    def run(name, workers, kill=None):
        keys = map(str, [*opts, "DATALOADER.NUM_WORKERS", workers])
        return train(config, tmp_path / name, [*keys], kill)

    assert run("whole", 0) == 0
    codes = [run("killed", workers, kill) for workers, kill in zip((1, 0, 2), KILLS, strict=True)]
    assert codes == [-9, 130, -9]
    assert run("killed", 1) == 0
    assert differences(tmp_path / "whole", tmp_path / "killed") == []
    text = (tmp_path / "killed" / "log.txt").read_text()
    assert text.count("Starting training from iteration") == 4
    lines = (tmp_path / "killed" / "metrics.json").read_text().splitlines()
    assert len(lines) >= 4 and not list((tmp_path / "killed").glob("*.partial"))
    torch.save({}, tmp_path / "whole" / "model_best.pth")  # the comparison can fail
    assert differences(tmp_path / "whole", tmp_path / "killed")[0].startswith("model_best.pth")


@pytest.fixture
def stopped(tiny_cfg, tmp_path):
    """Config of a RetinaNet with precise batch norms, trained for four iterations of six."""
    keys = {"MODEL__META_ARCHITECTURE": "RetinaNet", "MODEL__MASK_ON": False}
    keys |= {"MODEL__BACKBONE__NAME": "build_retinanet_resnest_fpn_backbone"}
    keys |= {"MODEL__FPN__IN_FEATURES": ["res3", "res4", "res5"], "DATASETS__TEST": ()}
    keys |= {"MODEL__RETINANET__NUM_CLASSES": 2, "INPUT__RANDOM_FLIP": "horizontal"}
    keys |= {"MODEL__FPN__NORM": "BN", "SOLVER__CHECKPOINT_PERIOD": 4, "SOLVER__MAX_ITER": 6}
    keys |= {"TEST__PRECISE_BN__ENABLED": True, "TEST__PRECISE_BN__NUM_ITER": 2}
    keys |= {"TEST__EVAL_PERIOD": 2, "SEED": 3, "SOLVER__IMS_PER_BATCH": 1}
    cfg = tiny_cfg(**keys)
    Trainer(cfg).train()
    assert saved(tmp_path, "model_0000003")["iteration"] == 3
    (tmp_path / "out" / "last_checkpoint").write_text("model_0000003.pth")
    return cfg


def saved(tmp_path, name="model_final"):
    return torch.load(tmp_path / "out" / f"{name}.pth", weights_only=True)


def resume(cfg):
    trainer = Trainer(cfg)
    trainer.resume_or_load(resume=True)
    begun = trainer._loaders[0].batches
    trainer.train()
    return begun


def change_checkpoint(tmp_path, change):
    content = saved(tmp_path, "model_0000003")
    change(content)
    torch.save(content, tmp_path / "out" / "model_0000003.pth")


def test_statistics_and_normalizers_go_on(stopped, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(logging.getLogger("resnest_d2"), "propagate", True)
    whole = copy.deepcopy(saved(tmp_path))
    assert whole["trainer"]["hooks"]["TrainingState"]["loss_normalizer"] != 100
    torch.manual_seed(0)  # without a seed of its own, another start draws other numbers
    resume(stopped)
    again = saved(tmp_path)
    differing = [k for k, v in whole["model"].items() if not torch.equal(v, again["model"][k])]
    assert differing == []
    states = [c["trainer"]["hooks"]["TrainingState"] for c in (whole, again)]
    assert states[0]["loss_normalizer"] == states[1]["loss_normalizer"]
    assert states[0]["metrics"] == states[1]["metrics"] and states[0]["loaders"][1]["batches"] == 6
    assert "number of processes" not in caplog.text and "older version" not in caplog.text

    stopped.SOLVER.IMS_PER_BATCH = 2
    (tmp_path / "out" / "last_checkpoint").write_text("model_0000003.pth")
    resume(stopped)
    assert "(1 before)" in caplog.text and caplog.text.count("continues after as many images") == 1
    assert saved(tmp_path)["trainer"]["hooks"]["TrainingState"]["loaders"][0]["position"] == 4

    stopped.SOLVER.IMS_PER_BATCH = 1
    (tmp_path / "out" / "last_checkpoint").write_text("model_0000003.pth")
    change_checkpoint(tmp_path, lambda c: c["trainer"]["hooks"].pop("TrainingState"))
    assert resume(stopped) == 4
    assert caplog.text.count("is of an older version") == 1
    assert saved(tmp_path)["iteration"] == 5


def of_another_optimizer(content):
    group = content["trainer"]["_trainer"]["optimizer"]["param_groups"][0]
    group["betas"] = group.pop("momentum")


def of_other_parameters(content):
    slots = content["trainer"]["_trainer"]["optimizer"]["state"]
    slots[0] = {"momentum_buffer": torch.zeros(3, 3, 3)}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c.pop("trainer"), r"no state of a training \(trainer\)"),
        (lambda c: c.update(trainer={"epoch": 3}), "has no number of iterations"),
        (lambda c: c["trainer"]["_trainer"].clear(), "has no optimizer"),
        (lambda c: c["trainer"]["_trainer"]["optimizer"].pop("state"), "optimizer is damaged"),
        (of_another_optimizer, "an optimizer of another kind than SGD"),
        (of_other_parameters, r"momentum_buffer of its optimizer is \(3, 3, 3\) for a parameter"),
        (
            lambda c: c["trainer"]["_trainer"]["optimizer"]["param_groups"][0]["params"].pop(),
            "groups of .* parameters, this one of",
        ),
        (lambda c: c["trainer"]["hooks"]["TrainingState"].pop("seed"), "training lacks seed"),
    ],
)
def test_a_state_that_does_not_fit_is_a_sentence(change, message, tiny_cfg, tmp_path):
    cfg = tiny_cfg(SOLVER__MAX_ITER=2, DATASETS__TEST=())
    trainer = Trainer(cfg)
    trainer.checkpointer.save("model_0000003", iteration=3)
    change_checkpoint(tmp_path, change)
    with pytest.raises(ValueError, match=message) as caught:
        trainer.resume_or_load(resume=True)
    assert "model_0000003.pth" in str(caught.value) and "\n" not in str(caught.value)


class Scaler:
    """Stands for torch's GradScaler, which needs a GPU."""

    def __init__(self, scale):
        self.scale = scale

    def state_dict(self):
        return {"scale": self.scale}

    def load_state_dict(self, state):
        self.scale = state["scale"]


@pytest.mark.parametrize(("before", "after"), [(512.0, 512.0), (None, 8.0)])
def test_the_scale_of_mixed_precision_is_resumed_and_may_be_new(before, after, tiny_cfg):
    cfg = tiny_cfg(DATASETS__TEST=())

    def build(scale):
        trainer = Trainer(cfg)
        steps = trainer._trainer
        parts = (steps.model, steps.data_loader, steps.optimizer)
        if scale:
            trainer._trainer = AMPTrainer(*parts, grad_scaler=Scaler(scale))
        return trainer

    build(before).checkpointer.save("model_0000003", iteration=3)
    resumed = build(8.0)
    resumed.resume_or_load(resume=True)
    assert resumed._trainer.grad_scaler.scale == after
