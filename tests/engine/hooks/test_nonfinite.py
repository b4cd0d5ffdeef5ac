import re

import pytest
import torch
from detectron2.structures import Boxes, Instances
from torch import nn

from resnest_d2 import get_cfg
from resnest_d2.engine import Trainer
from resnest_d2.engine.hooks.nonfinite import DivergedError, StepWatch, is_nonfinite, likely_cause


def image(box=(1, 1, 5, 5), value=0.0):
    instances = Instances((8, 8), gt_boxes=Boxes([box]), gt_classes=torch.zeros(1).long())
    image = torch.full((3, 8, 8), value)
    return {"file_name": "a.png", "image_id": 7, "image": image, "instances": instances}


STEADY, RISING = [1.0, 1.1] * 15, [3.0, 2.0, 50.0, 1e7]


@pytest.mark.parametrize(
    ("batch", "losses", "amp", "expected"),
    [
        ([image((1, 1, 5, float("inf")))], RISING, False, r"a.png \(image id 7\) has the box"),
        ([image((5, 1, 5, 5))], STEADY, False, r"has the box \[5.0, 1.0, 5.0, 5.0\]"),
        ([image(value=float("nan"))], [], False, "a.png .* values that are not finite"),
        ([image()], [], False, "No step had been made.*MODEL.WEIGHTS"),
        ([image()], STEADY, False, r"steady at 1.05.*this batch"),
        ([image()], STEADY, True, r"this batch.*SOLVER.AMP.ENABLED False"),
        ([image()], RISING, False, r"BASE_LR 0.5\): the loss went from 3 to 1e\+07 in the 4"),
    ],
)
def test_names_the_likely_cause(batch, losses, amp, expected):
    cfg = get_cfg()
    cfg.SOLVER.BASE_LR, cfg.SOLVER.AMP.ENABLED = 0.5, amp
    cause = likely_cause(batch, losses, cfg)
    assert re.search(expected, cause), cause


def test_the_first_step_after_resuming_is_not_the_first():
    cause = likely_cause([image()], [], get_cfg(), iteration=20)
    assert "first step after resuming" in cause and "No step had been made" not in cause


def test_gradients_that_are_not_finite_do_not_reach_the_weights():
    model = nn.Linear(2, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    watch = StepWatch(model, optimizer)
    watch.before_train()
    before = model.weight.detach().clone()
    x = torch.tensor([[1.0, float("inf")]])
    model(x).sum().backward()
    assert watch.batch is x
    with pytest.raises(FloatingPointError, match="gradients"):
        optimizer.step()
    assert torch.equal(model.weight, before)
    assert is_nonfinite(FloatingPointError()) and not is_nonfinite(AssertionError("x"))
    model.eval()(torch.ones(1, 2))
    assert watch.batch is x  # an evaluation is not looked at
    watch.after_train()
    model.train()(torch.ones(1, 2))
    optimizer.step()  # neither is what comes after the training
    assert watch.batch is x and not torch.equal(model.weight, before)


@pytest.mark.parametrize("clip", [False, True])
def test_a_huge_learning_rate_is_named_and_the_checkpoint_stays(clip, tiny_cfg, tmp_path):
    keys = {"SOLVER__CLIP_GRADIENTS__ENABLED": clip, "SOLVER__CHECKPOINT_PERIOD": 1}
    cfg = tiny_cfg(SOLVER__BASE_LR=1e-3, DATASETS__TEST=(), SOLVER__MAX_ITER=30, **keys)
    trainer = Trainer(cfg)
    trainer.resume_or_load(resume=False)
    for group in trainer.optimizer.param_groups:
        group["initial_lr"] = 1e12
    trainer.scheduler.base_lrs = [1e12] * len(trainer.scheduler.base_lrs)
    with pytest.raises(DivergedError, match="learning rate.*The batch is in .*is from before"):
        trainer.train()
    batch = torch.load(tmp_path / "out" / "nonfinite_batch.pth", weights_only=True)
    assert {p["image_id"] for p in batch["images"]} == {1, 2}
    assert batch["images"][0]["boxes"].shape == (1, 4)
    last = (tmp_path / "out" / "last_checkpoint").read_text()
    weights = torch.load(tmp_path / "out" / last, weights_only=True)["model"]
    assert all(v.isfinite().all() for v in weights.values())
