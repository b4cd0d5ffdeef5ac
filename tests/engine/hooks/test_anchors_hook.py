from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml

from resnest_d2.engine.hooks import FoundAnchorsFile
from resnest_d2.errors import UserError


def begin(cfg, iteration):
    hook = FoundAnchorsFile(cfg)
    hook.trainer = SimpleNamespace(start_iter=iteration)
    hook.before_train()


def test_config_yaml_has_the_anchors_and_a_resumed_run_no_others(tiny_cfg):
    cfg = tiny_cfg(MODEL__ANCHOR_GENERATOR__SIZES=[[9], [19], [39], [79], [159]])
    file = Path(cfg.OUTPUT_DIR) / "config.yaml"
    asked = cfg.clone()
    asked.MODEL.ANCHOR_GENERATOR.AUTO = True
    for before in (None, asked.dump()):  # no file, and one of before there were anchors
        if before:
            file.write_text(before)
        begin(cfg, 5)
        assert yaml.safe_load(file.read_text())["MODEL"]["ANCHOR_GENERATOR"]["SIZES"][0] == [9]
    other = cfg.clone()
    other.MODEL.ANCHOR_GENERATOR.SIZES = [[8], [16], [32], [64], [128]]
    kept = file.read_text()
    with pytest.raises(UserError, match="began with other anchors"):
        begin(other, 5)
    assert file.read_text() == kept
    begin(other, 0)  # a new training
    assert file.read_text() == other.dump()
