import logging
import types

import pytest

from resnest_d2.engine import Trainer
from resnest_d2.engine.hooks import BatchSize


@pytest.mark.parametrize(("before", "warnings"), [(16, 0), (8, 1)])
def test_another_batch_is_a_warning(before, warnings, caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger("resnest_d2"), "propagate", True)
    hook = BatchSize(16)
    hook.trainer = types.SimpleNamespace(iter=99)
    hook.load_state_dict(BatchSize(before).state_dict())
    assert len(caplog.records) == warnings
    if warnings:
        assert "The 100 iterations of the checkpoint have 8 images each" in caplog.text
        assert "SOLVER.IMS_PER_BATCH is now 16" in caplog.text


def test_is_in_a_runs_checkpoints(tiny_cfg, caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger("resnest_d2"), "propagate", True)
    keys = {"MODEL__MASK_ON": False, "DATASETS__TEST": (), "SOLVER__MAX_ITER": 1}
    trainer = Trainer(tiny_cfg(**keys))
    trainer.train()
    for batch, warns in ((2, False), (1, True)):
        caplog.clear()
        trainer = Trainer(tiny_cfg(**keys, SOLVER__IMS_PER_BATCH=batch))
        trainer.resume_or_load(resume=True)
        assert ("1 iterations of the checkpoint have 2 images" in caplog.text) is warns
