"""Real images with real annotations; tests/test_own_data.py has the same on drawn ones."""

import small
import torch
from detectron2.data import DatasetCatalog

from resnest_d2.data.validate import check_data, pair_paths

MASK = "quick_schedules/mask_rcnn_ResNeSt_14_FPN_quick.yaml"


def test_nuclei_are_trained_on_with_all_their_rle_masks(realdata, tmp_path):
    opts = small.data_keys(realdata / "nuclei", "nuclei")
    cfg, latest = small.train_two_steps(MASK, opts, tmp_path)
    assert (cfg.MODEL.ROI_HEADS.NUM_CLASSES, cfg.INPUT.MASK_FORMAT) == (1, "bitmask")
    assert torch.isfinite(torch.tensor(latest["loss_mask"][0]))
    records = DatasetCatalog.get("nuclei_train")
    assert (len(records), sum(len(r["annotations"]) for r in records)) == (170, 4253)


def test_of_bccd_as_published_only_its_empty_box_is_found(realdata):
    folder = realdata / "bccd"
    paths = ["train_with_empty_boxes.json", "images", "val.json"]
    check = check_data(pair_paths([str(folder / path) for path in paths]), progress=False)
    warned = [(f.kind, f.entry) for f in check.findings if f.severity != "note"]
    assert warned == [("unusable box", "annotation id 2288")]
    assert len(check.findings) == 1 and not check.passes(strict=True) and check.passes()
