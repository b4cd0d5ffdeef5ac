"""The authors' own YAML files, as facts: they build the published networks and load their files.

Source: https://github.com/zhanghang1989/ResNeSt/tree/master/d2/configs, whose keys are written
down here; none of them has a STEM_OUT_CHANNELS.
"""

import published
import pytest
import yaml

from resnest_d2.checkpoint.fitting import build_on_meta, fit
from resnest_d2.config import check_config, load_config

RCNN = {
    "MODEL": {
        "META_ARCHITECTURE": "GeneralizedRCNN",
        "BACKBONE": {"NAME": "build_resnest_fpn_backbone"},
        "RESNETS": {"OUT_FEATURES": ["res2", "res3", "res4", "res5"]},
        "FPN": {"IN_FEATURES": ["res2", "res3", "res4", "res5"]},
        "ANCHOR_GENERATOR": {
            "SIZES": [[32], [64], [128], [256], [512]],
            "ASPECT_RATIOS": [[0.5, 1.0, 2.0]],
        },
        "RPN": {
            "IN_FEATURES": ["p2", "p3", "p4", "p5", "p6"],
            "PRE_NMS_TOPK_TRAIN": 2000,
            "PRE_NMS_TOPK_TEST": 1000,
            "POST_NMS_TOPK_TRAIN": 1000,
            "POST_NMS_TOPK_TEST": 1000,
        },
        "ROI_HEADS": {"NAME": "StandardROIHeads", "IN_FEATURES": ["p2", "p3", "p4", "p5"]},
        "ROI_BOX_HEAD": {"NAME": "FastRCNNConvFCHead", "NUM_FC": 2, "POOLER_RESOLUTION": 7},
        "ROI_MASK_HEAD": {
            "NAME": "MaskRCNNConvUpsampleHead",
            "NUM_CONV": 4,
            "POOLER_RESOLUTION": 14,
        },
    },
    "DATASETS": {"TRAIN": "('coco_2017_train',)", "TEST": "('coco_2017_val',)"},
    "SOLVER": {
        "IMS_PER_BATCH": 16,
        "BASE_LR": 0.02,
        "STEPS": "(60000, 80000)",
        "MAX_ITER": 90000,
    },
    "INPUT": {"MIN_SIZE_TRAIN": "(640, 672, 704, 736, 768, 800)"},
    "VERSION": 2,
}
PANOPTIC = {
    "_BASE_": "../Base-RCNN-FPN.yaml",
    "MODEL": {
        "META_ARCHITECTURE": "PanopticFPN",
        "MASK_ON": True,
        "SEM_SEG_HEAD": {"LOSS_WEIGHT": 0.5},
    },
    "DATASETS": {
        "TRAIN": "('coco_2017_train_panoptic_separated',)",
        "TEST": "('coco_2017_val_panoptic_separated',)",
    },
}
# What a leaf has beside its depth; the names are those of the published files.
LEAVES = {
    "faster_rcnn_ResNeSt_50_FPN_syncbn_range-scale_1x": (50, {}),
    "faster_rcnn_ResNeSt_50_FPN_dcn_syncbn_range-scale_1x": (50, {"deformable"}),
    "faster_cascade_rcnn_ResNeSt_50_FPN_syncbn_range-scale-1x": (50, {"cascade"}),
    "mask_rcnn_ResNeSt_50_FPN_syncBN_1x": (50, {"mask"}),
    "mask_cascade_rcnn_ResNeSt_50_FPN_syncBN_1x": (50, {"cascade", "mask"}),
    "faster_rcnn_ResNeSt_101_FPN_syncbn_range-scale_1x": (101, {}),
    "faster_cascade_rcnn_ResNeSt_101_FPN_syncbn_range-scale_1x": (101, {"cascade"}),
    "mask_rcnn_ResNeSt_101_FPN_syncBN_1x": (101, {"mask"}),
    "mask_cascade_rcnn_ResNeSt_101_FPN_syncBN_1x": (101, {"cascade", "mask"}),
    "faster_cascade_rcnn_ResNeSt_200_FPN_syncbn_range-scale_1x": (200, {"cascade"}),
    "mask_cascade_rcnn_ResNeSt_200_FPN_syncBN_all_tricks_3x": (200, {"cascade", "mask", "tricks"}),
    "mask_cascade_rcnn_ResNeSt_200_FPN_dcn_syncBN_all_tricks_3x": (
        200,
        {"cascade", "mask", "tricks", "deformable"},
    ),
    "panoptic_ResNeSt_200_FPN_syncBN_tricks_3x": (200, {"cascade", "panoptic"}),
}


def leaf(depth, parts):
    resnets = {"DEPTH": depth, "STRIDE_IN_1X1": False, "RADIX": 2, "NORM": "SyncBN"}
    box = {"NAME": "FastRCNNConvFCHead", "NUM_CONV": 4, "NUM_FC": 1, "NORM": "SyncBN"}
    model = {
        "RESNETS": resnets,
        "FPN": {"NORM": "SyncBN"},
        "ROI_BOX_HEAD": box,
        "PIXEL_MEAN": [123.68, 116.779, 103.939],
        "PIXEL_STD": [58.393, 57.12, 57.375],
    }
    images = {"FORMAT": "RGB"}
    test = {"PRECISE_BN": {"ENABLED": True}}
    if "panoptic" in parts:
        model["SEM_SEG_HEAD"] = {"NORM": "SyncBN"}
        test["AUG"] = {"ENABLED": True}
    else:
        model["MASK_ON"] = "mask" in parts
    if "deformable" in parts:
        resnets |= {"DEFORM_ON_PER_STAGE": [False, True, True, True]}
        resnets |= {"DEFORM_MODULATED": True, "DEFORM_NUM_GROUPS": 2}
    if "cascade" in parts:
        model["ROI_HEADS"] = {"NAME": "CascadeROIHeads"}
        model["RPN"] = {"POST_NMS_TOPK_TRAIN": 2000}
        box["CLS_AGNOSTIC_BBOX_REG"] = True
    if "mask" in parts:
        model["ROI_MASK_HEAD"] = {
            "NORM": "SyncBN",
            **({"NUM_CONV": 8} if "tricks" in parts else {}),
        }
    if "tricks" in parts:
        images |= {"MIN_SIZE_TRAIN": "(640, 864)", "MIN_SIZE_TRAIN_SAMPLING": "range"}
        images |= {"MAX_SIZE_TRAIN": 1440, "CROP": {"ENABLED": True}}
    base = "Base-Panoptic-FPN.yaml" if "panoptic" in parts else "../Base-RCNN-FPN.yaml"
    return {"_BASE_": base, "MODEL": model, "INPUT": images, "TEST": test}


@pytest.fixture
def authors(tmp_path):
    """A function that writes a leaf with its bases, and gives its path."""

    def write(name):
        folder = tmp_path / "leaves"
        folder.mkdir()
        (tmp_path / "Base-RCNN-FPN.yaml").write_text(yaml.safe_dump(RCNN))
        (folder / "Base-Panoptic-FPN.yaml").write_text(yaml.safe_dump(PANOPTIC))
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(leaf(*LEAVES[name])))
        return str(folder / f"{name}.yaml")

    return write


@pytest.mark.parametrize("name", LEAVES)
def test_builds_the_published_stem_and_fits_its_weights(name, authors, tmp_path, caplog):
    caplog.set_level("INFO")
    depth = LEAVES[name][0]
    cfg = load_config(authors(name))
    assert cfg.MODEL.RESNETS.STEM_OUT_CHANNELS == (64 if depth == 50 else 128)
    assert ("STEM_OUT_CHANNELS is 128" in caplog.text) is (depth > 50)
    check_config(cfg, predicting=True)
    path = published.save(tmp_path / "published.pth", name)
    report = fit(str(path), build_on_meta(cfg))
    assert report.complete and not report.unused
    assert report.num_loaded == sum("num_batches" not in n for n in published.detector(name))


@pytest.mark.parametrize("name", ["Base-RCNN-FPN", "leaves/Base-Panoptic-FPN"])
def test_their_base_files_load(name, authors, tmp_path):
    authors("faster_rcnn_ResNeSt_101_FPN_syncbn_range-scale_1x")
    cfg = load_config(str(tmp_path / f"{name}.yaml"))
    assert cfg.MODEL.RESNETS.STRIDE_IN_1X1 is False  # which no base file sets
    assert cfg.MODEL.RESNETS.STEM_OUT_CHANNELS == 64
    check_config(cfg)
