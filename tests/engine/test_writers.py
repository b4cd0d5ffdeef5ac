import logging
import sys
import types

import pytest
from detectron2.utils.events import EventStorage

from resnest_d2 import get_cfg
from resnest_d2.engine import writers


@pytest.fixture
def wandb(monkeypatch):
    """A stand-in for the module, which notes what it is told."""
    module = types.ModuleType("wandb")
    module.__spec__ = types.SimpleNamespace(name="wandb")
    module.told = []

    def init(**settings):
        module.told.append(("init", settings))
        return types.SimpleNamespace(
            log=lambda values, step: module.told.append((step, dict(values))),
            finish=lambda: module.told.append("finish"),
        )

    module.init = init
    monkeypatch.setitem(sys.modules, "wandb", module)
    monkeypatch.setenv("WANDB_API_KEY", "x")
    return module


@pytest.fixture
def log(caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger("resnest_d2"), "propagate", True)
    return caplog


def test_sends_each_scalar_once_and_in_order(wandb):
    cfg = get_cfg()
    cfg.OUTPUT_DIR = "output/mine"
    (writer,) = writers.wandb_writers(cfg)
    with EventStorage() as storage:
        storage.put_scalar("lr", 1.0, smoothing_hint=False)
        storage.iter = 3
        storage.put_scalar("total_loss", 5.0)
        writer.write()
        storage.iter = 4
        storage.put_scalar("lr", 2.0, smoothing_hint=False)
        writer.write()
    writer.close()
    (_, settings), *told = wandb.told
    assert settings["name"] == "mine" and settings["dir"] == "output/mine"
    assert told == [(0, {"lr": 1.0}), (3, {"total_loss": 5.0}), (4, {"lr": 2.0}), "finish"]


def test_its_failures_do_not_stop_a_training(wandb, log, monkeypatch):
    def fail(**settings):
        raise RuntimeError("no network")

    (writer,) = writers.wandb_writers(get_cfg())
    writer._run.log = fail
    with EventStorage() as storage:
        storage.put_scalar("lr", 1.0)
        writer.write()
        writer.write()
    writer.close()
    assert log.text.count("disabled for the rest of this run") == 1
    monkeypatch.setattr(wandb, "init", fail)
    (writer,) = writers.wandb_writers(get_cfg())
    writer.write()
    assert "RuntimeError: no network" in log.text


def test_is_there_only_when_asked_for_and_installed(wandb, log, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    monkeypatch.setattr(writers, "find_spec", lambda name: None)
    assert writers.wandb_writers(get_cfg()) == [] and "resnest-d2[wandb]" in log.text
    monkeypatch.delenv("WANDB_API_KEY")
    monkeypatch.setattr(writers, "find_spec", lambda name: object())
    assert writers.wandb_writers(get_cfg()) == []
