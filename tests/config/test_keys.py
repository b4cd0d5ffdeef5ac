"""Keys of the package in configs that others read."""

import pytest
from detectron2.config import get_cfg as detectron2_cfg
from detectron2.modeling import build_model

from resnest_d2 import get_cfg
from resnest_d2.config import with_defaults


def test_a_complete_config_is_given_back_itself(rcnn_cfg):
    assert with_defaults(rcnn_cfg) is rcnn_cfg


@pytest.mark.parametrize("frozen", [False, True])
def test_absent_keys_get_their_defaults(frozen):
    cfg = detectron2_cfg()
    if frozen:
        cfg.freeze()
    whole = with_defaults(cfg)
    assert whole == get_cfg() and whole.is_frozen() is frozen
    assert "RADIX" not in cfg.MODEL.RESNETS


def test_set_keys_stay_and_lists_become_tuples():
    cfg = detectron2_cfg()
    cfg.MODEL.RESNETS.RADIX = 1
    cfg.MODEL.ROI_BOX_CASCADE_HEAD.STAGE_LOSS_WEIGHTS = [1.0, 0.5, 0.25]
    whole = with_defaults(cfg)
    assert whole.MODEL.RESNETS.RADIX == 1
    assert whole.MODEL.ROI_BOX_CASCADE_HEAD.STAGE_LOSS_WEIGHTS == (1.0, 0.5, 0.25)
    whole.DATASETS.COCO.append("changed")
    assert get_cfg().DATASETS.COCO == []


@pytest.mark.parametrize("heads", ["StandardROIHeads", "TwoSidedROIHeads", "CascadeMaskROIHeads"])
def test_a_dump_read_by_a_plain_client_builds(heads, rcnn_cfg, tmp_path):
    rcnn_cfg.MODEL.ROI_HEADS.NAME = heads
    rcnn_cfg.MODEL.ROI_BOX_HEAD.CLS_AGNOSTIC_BBOX_REG = True
    if heads.startswith("TwoSided"):
        rcnn_cfg.MODEL.PROPOSAL_GENERATOR.NAME = "TwoSidedRPN"
    (tmp_path / "config.yaml").write_text(rcnn_cfg.dump())
    cfg = detectron2_cfg()
    cfg.set_new_allowed(True)
    cfg.merge_from_file(str(tmp_path / "config.yaml"))
    assert {*build_model(cfg).state_dict()} == {*build_model(rcnn_cfg).state_dict()}


def test_keys_of_ours_may_all_be_absent(rcnn_cfg):
    cfg = detectron2_cfg()
    ours = with_defaults(rcnn_cfg)

    def take(theirs, from_ours):
        for key, value in theirs.items():
            if isinstance(value, dict):
                take(value, from_ours[key])
            else:
                theirs[key] = from_ours[key]

    take(cfg, ours)
    assert "RADIX" not in cfg.MODEL.RESNETS
    assert {*build_model(cfg).state_dict()} == {*build_model(rcnn_cfg).state_dict()}
