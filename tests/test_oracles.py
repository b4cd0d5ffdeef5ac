"""What the reference systems compute: timm's backbones and the authors' detectors."""

import re

import numpy as np
import pytest
import torch
from detectron2.modeling import build_model
from detectron2.structures import Boxes, pairwise_iou

from resnest_d2.model_zoo import get_config
from resnest_d2.modeling import ResNeSt

MEAN, STD = (123.68, 116.779, 103.939), (58.393, 57.12, 57.375)

TIMM = {
    "resnest14d": {"depth": 14},
    "resnest26d": {"depth": 26},
    "resnest50d": {"depth": 50},
    "resnest50d_4s2x40d": {"radix": 4, "num_groups": 2, "width": 40, "avd_first": True},
    "resnest50d_1s4x24d": {"radix": 1, "num_groups": 4, "width": 24, "avd_first": True},
}
# timm's names in ours; the order matters
TIMM_RULES = [
    (r"^conv1\.([036])\.", lambda m: f"stem.conv1_{int(m[1]) // 3 + 1}."),
    (r"^conv1\.([14])\.", lambda m: f"stem.conv1_{int(m[1]) // 3 + 1}.norm."),
    (r"^bn1\.", "stem.conv1_3.norm."),
    (r"^layer(\d)\.", lambda m: f"res{int(m[1]) + 1}."),
    (r"^(res.*)\.downsample\.1\.", r"\1.shortcut."),
    (r"^(res.*)\.downsample\.2\.", r"\1.shortcut.norm."),
    (r"^(res\d\.\d+)\.bn([13])\.", r"\1.conv\2.norm."),
]


def renamed(name):
    for pattern, replacement in TIMM_RULES:
        name = re.sub(pattern, replacement, name)
    return name


@pytest.mark.parametrize("name", TIMM)
def test_timm(name, oracles):
    oracle = oracles.load(f"timm/{name}")
    net = ResNeSt(**TIMM[name]).eval()
    weights = oracles.weights(oracle, seed=2)
    net.load_state_dict({renamed(k): v for k, v in weights.items() if not k.startswith("fc.")})
    picture = (oracles.picture(oracle) - np.array(MEAN)) / np.array(STD)
    with torch.no_grad():
        outputs = net(torch.from_numpy(picture).permute(2, 0, 1)[None].float())
    for seed, stage in enumerate(["res2", "res3", "res4", "res5"], 1):
        oracles.assert_map(oracle, stage, outputs[stage], seed=seed)


SYNC_FPN = ["MODEL.FPN.NORM", "SyncBN"]
DCN = [
    *("MODEL.RESNETS.DEFORM_ON_PER_STAGE", [False, True, True, True]),
    *("MODEL.RESNETS.DEFORM_MODULATED", True),
    *("MODEL.RESNETS.DEFORM_NUM_GROUPS", 2),
]
# The authors' recipe is this project's with SyncBN in the FPN, too; here the keys that count.
AUTHORS = {
    "faster_rcnn_ResNeSt_50_FPN_syncbn_range-scale_1x": (
        "COCO-Detection/faster_rcnn_ResNeSt_50_FPN_1x.yaml",
        SYNC_FPN,
    ),
    "faster_rcnn_ResNeSt_50_FPN_dcn_syncbn_range-scale_1x": (
        "COCO-Detection/faster_rcnn_ResNeSt_50_FPN_1x.yaml",
        SYNC_FPN + DCN,
    ),
    "faster_cascade_rcnn_ResNeSt_50_FPN_syncbn_range-scale-1x": (
        "COCO-Detection/cascade_rcnn_ResNeSt_50_FPN_1x.yaml",
        SYNC_FPN,
    ),
    "mask_cascade_rcnn_ResNeSt_50_FPN_syncBN_1x": (
        "COCO-InstanceSegmentation/cascade_mask_rcnn_ResNeSt_50_FPN_1x.yaml",
        SYNC_FPN,
    ),
}


@pytest.mark.parametrize("name", AUTHORS)
def test_authors(name, oracles):
    oracle = oracles.load(f"authors/{name}")
    config, opts = AUTHORS[name]
    cfg = get_config(config)
    threshold = float(oracle["score_thr"])
    cfg.merge_from_list([*opts, "MODEL.DEVICE", "cpu"])
    cfg.MODEL.ROI_HEADS.SCORE_THRESH_TEST = threshold
    model = build_model(cfg).eval()
    incompatible = model.load_state_dict(oracles.weights(oracle, seed=1), strict=False)
    assert not incompatible.unexpected_keys
    assert all("num_batches_tracked" in key for key in incompatible.missing_keys)

    picture = oracles.picture(oracle)
    height, width = picture.shape[:2]
    image = torch.from_numpy(picture.transpose(2, 0, 1).astype(np.float32))
    inputs = [{"image": image, "height": height, "width": width}]
    with torch.no_grad():
        images = model.preprocess_image(inputs)
        maps = {**model.backbone.bottom_up(images.tensor), **model.backbone(images.tensor)}
        found = model(inputs)[0]["instances"]
    for stage in ["res2", "res3", "res4", "res5", "p2", "p3", "p4", "p5", "p6"]:
        oracles.assert_map(oracle, stage, maps[stage], seed=int(oracle[f"{stage}_seed"]))
    assert_same_detections(oracle, found, (height, width))


def assert_same_detections(oracle, found, size):
    """As sets: same class, IoU over 0.99, score within 1e-3; two in a hundred may differ."""
    boxes = Boxes(torch.from_numpy(oracle["det_boxes"]))
    close = pairwise_iou(boxes, found.pred_boxes) > 0.99
    close &= torch.from_numpy(oracle["det_labels"])[:, None] == found.pred_classes[None]
    scores = torch.from_numpy(oracle["det_scores"])
    close &= (scores[:, None] - found.scores[None]).abs() < 1e-3
    allowed = len(boxes) // 50
    assert len(found) == len(boxes) > 0
    assert (~close.any(1)).sum() <= allowed and (~close.any(0)).sum() <= allowed
    if "det_masks" not in oracle:
        return
    masks = np.unpackbits(oracle["det_masks"], axis=1)[:, : size[0] * size[1]]
    masks = torch.from_numpy(masks.reshape(-1, *size)).bool()
    for i, row in enumerate(close):
        if row.any():
            ours = found.pred_masks[row]
            union = (ours | masks[i]).sum((1, 2)).clamp(min=1)
            assert ((ours & masks[i]).sum((1, 2)) / union).max() > 0.99 or not masks[i].any()
