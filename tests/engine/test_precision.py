import logging

import pytest
import torch
from torch import nn

from resnest_d2.engine import Trainer, precision
from resnest_d2.engine.precision import BFloat16Trainer


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(3, 3)

    def forward(self, x):
        self.seen = self.layer(x).dtype
        return {"loss": self.layer(x).float().square().sum()}


def test_only_the_forward_pass_of_training_is_in_bfloat16():
    model = Model()
    data = [torch.rand(2, 3)] * 2
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    trainer = BFloat16Trainer(model, data, optimizer)
    trainer.train(0, 2)
    assert model.seen == torch.bfloat16
    assert model.layer.weight.grad.dtype == torch.float32
    model(data[0])
    assert model.seen == torch.float32 and "forward" not in vars(model)


def test_a_mask_rcnn_trains_and_resumes(tiny_cfg):
    cfg = tiny_cfg(SOLVER__AMP__ENABLED=True, SOLVER__MAX_ITER=2)
    trainer = Trainer(cfg)
    assert isinstance(trainer._trainer, BFloat16Trainer)
    before = {k: v.clone() for k, v in trainer.model.named_parameters()}
    trainer.train()
    for name, value in trainer.model.named_parameters():
        assert value.dtype == torch.float32
        if not name.endswith("fc1.bias"):  # a norm follows and takes it off again
            assert not torch.equal(value, before[name]), name
    trainer = Trainer(tiny_cfg(SOLVER__AMP__ENABLED=True))
    trainer.resume_or_load(resume=True)
    assert trainer.start_iter == 2


@pytest.mark.parametrize(
    ("hardware", "device", "amp", "warned"),
    [
        (False, "cpu", True, True),
        (True, "cpu", True, False),
        (False, "cpu", False, False),
        (False, "cuda", True, False),
    ],
)
def test_emulated_bfloat16_is_warned_of(cfg, monkeypatch, caplog, hardware, device, amp, warned):
    monkeypatch.setattr(precision, "abilities", lambda: ("AVX2", "BF16") if hardware else ("AVX2",))
    cfg.MODEL.DEVICE, cfg.SOLVER.AMP.ENABLED = device, amp
    with caplog.at_level(logging.WARNING), precision.on_its_device(cfg):
        pass
    assert ("train with SOLVER.AMP.ENABLED False" in caplog.text) is warned
