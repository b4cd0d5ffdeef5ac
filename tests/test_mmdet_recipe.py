"""The recipe of mmdetection's eight detectors is that of its version 3.3, iteration by iteration.

Formulas are of mmengine's LinearLR and MultiStepLR, mmcv's rescaling and mmdetection's CocoDataset.
"""

import json

import numpy as np
import pytest
import torch
from detectron2.data import DatasetCatalog
from detectron2.data import transforms as T
from detectron2.data.datasets import load_coco_json
from detectron2.data.detection_utils import build_augmentation
from detectron2.modeling import build_model
from detectron2.solver import build_lr_scheduler, build_optimizer

from resnest_d2.data.resize import with_resizer
from resnest_d2.engine.guards import load_training_images
from resnest_d2.model_zoo import get_config, models

EIGHT = [m.id for m in models() if m.source == "mmdetection" and not m.is_backbone]
EPOCH = 7330  # iterations of 16 images of train2017


def test_the_eight_are_all():
    assert len(EIGHT) == 8


@pytest.mark.parametrize("name", EIGHT)
def test_all_have_the_same_solver(name):
    assert get_config(name).SOLVER == get_config(EIGHT[0]).SOLVER


def test_learning_rate_of_every_iteration():
    cfg = get_config(EIGHT[0])
    weight = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([weight], cfg.SOLVER.BASE_LR)
    scheduler = build_lr_scheduler(cfg, optimizer)
    rates = []
    for _ in range(cfg.SOLVER.MAX_ITER):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    iterations = np.arange(12 * EPOCH)
    warmup = np.minimum(0.001 + (1 - 0.001) * iterations / 499, 1)  # whole at iteration 499
    decay = 0.1 ** ((iterations >= 8 * EPOCH).astype(int) + (iterations >= 11 * EPOCH))
    np.testing.assert_allclose(rates, 0.02 * warmup * decay, rtol=1e-9)


@pytest.mark.parametrize("name", EIGHT)
def test_every_parameter_has_the_same_decay_and_momentum(name):
    cfg = get_config(name)
    cfg.MODEL.DEVICE = "meta"
    with torch.device("meta"):
        model = build_model(cfg)
    groups = build_optimizer(cfg, model).param_groups
    settings = {(g["lr"], g["weight_decay"], g["momentum"], g["nesterov"]) for g in groups}
    assert settings == {(0.02, 0.0001, 0.9, False)}
    ours = {id(p) for group in groups for p in group["params"]}
    assert ours == {id(p) for p in model.parameters() if p.requires_grad}
    frozen = {n.split(".")[2] for n, p in model.named_parameters() if not p.requires_grad}
    assert frozen == {"stem", "res2"}
    assert not cfg.SOLVER.CLIP_GRADIENTS.ENABLED and not cfg.SOLVER.AMP.ENABLED


def resized(size, scale):
    """mmcv's rescale_size: (height, width) within ``scale``, its longest and shortest side."""
    factor = min(max(scale) / max(size), min(scale) / min(size))
    return tuple(int(side * float(factor) + 0.5) for side in size)


def drawn_sizes(name, size, number):
    cfg = get_config(name)
    resize, flip = with_resizer(build_augmentation(cfg, is_train=True), cfg.INPUT.RESIZE)
    image = np.zeros((*size, 3), np.uint8)
    np.random.seed(0)
    drawn = [resize.get_transform(image) for _ in range(number)]
    return {(t.new_h, t.new_w) for t in drawn}, flip


@pytest.mark.parametrize("name", EIGHT)
@pytest.mark.parametrize("size", [(480, 640), (640, 427), (333, 500), (120, 640)])
def test_sizes_and_flips_of_training(name, size):
    sides = range(640, 801) if "mask" not in name else (640, 672, 704, 736, 768, 800)
    drawn, flip = drawn_sizes(name, size, 3000 if "mask" not in name else 100)
    assert drawn == {resized(size, (1333, side)) for side in sides}
    assert type(flip) is T.RandomFlip
    assert (flip.prob, flip.horizontal, flip.vertical) == (0.5, True, False)


@pytest.mark.parametrize("name", EIGHT)
def test_size_of_evaluation(name):
    cfg = get_config(name)
    (resize,) = with_resizer(build_augmentation(cfg, is_train=False), cfg.INPUT.RESIZE)
    for size in ((480, 640), (640, 427), (120, 640)):
        transform = resize.get_transform(np.zeros((*size, 3), np.uint8))
        assert (transform.new_h, transform.new_w) == resized(size, (1333, 800))


@pytest.mark.parametrize("name", EIGHT)
def test_batch_normalisation_and_input(name):
    cfg = get_config(name)
    assert cfg.SOLVER.IMS_PER_BATCH == 16 and cfg.SOLVER.REFERENCE_WORLD_SIZE == 8
    assert cfg.INPUT.FORMAT == "RGB" and cfg.DATALOADER.ASPECT_RATIO_GROUPING
    assert cfg.MODEL.PIXEL_MEAN == [123.68, 116.779, 103.939]
    assert cfg.MODEL.PIXEL_STD == [58.393, 57.12, 57.375]
    assert cfg.MODEL.RESNETS.NORM == cfg.MODEL.ROI_BOX_HEAD.NORM == "SyncBN"
    assert cfg.MODEL.FPN.NORM == "" and not cfg.TEST.PRECISE_BN.ENABLED


# (width, height) of each image, and (box's sides, crowd) of its annotations
IMAGES = {
    "kept": ((64, 32), [((9, 9), 0)]),
    "no objects": ((64, 64), []),
    "31 px high": ((64, 31), [((9, 9), 0)]),
    "31 px wide": ((31, 64), [((9, 9), 0)]),
    "a box of 0.9 px": ((64, 64), [((9, 0.9), 0), ((9, 9), 0), ((0.9, 9), 0)]),
    "only a box of 0.9 px": ((64, 64), [((9, 0.9), 0)]),
    "a crowd beside an object": ((64, 64), [((30, 30), 1), ((9, 9), 0)]),
}


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (
            "faster_rcnn_s50",
            {
                "kept": 1,
                "a box of 0.9 px": 1,
                "only a box of 0.9 px": 0,
                "a crowd beside an object": 1,
            },
        ),
        (
            "faster_rcnn_ResNeSt_50_FPN_syncbn_range-scale_1x",
            {
                "kept": 1,
                "31 px high": 1,
                "31 px wide": 1,
                "a box of 0.9 px": 3,
                "only a box of 0.9 px": 1,
                "a crowd beside an object": 1,
            },
        ),
    ],
)
def test_images_and_boxes_left_out(name, expected, tmp_path):
    data = {"images": [], "annotations": [], "categories": [{"id": 1, "name": "thing"}]}
    for i, (file_name, ((width, height), objects)) in enumerate(IMAGES.items(), 1):
        data["images"].append({"id": i, "file_name": file_name, "width": width, "height": height})
        for sides, crowd in objects:
            data["annotations"].append(
                {
                    "id": len(data["annotations"]) + 1,
                    "image_id": i,
                    "category_id": 1,
                    "bbox": [1, 1, *sides],
                    "iscrowd": crowd,
                    "area": sides[0] * sides[1],
                }
            )
    (tmp_path / "train.json").write_text(json.dumps(data))
    dataset = f"recipe_{name}"
    DatasetCatalog.register(
        dataset, lambda: load_coco_json(str(tmp_path / "train.json"), str(tmp_path), dataset)
    )
    cfg = get_config(name)
    cfg.DATASETS.TRAIN = (dataset,)
    try:
        images = load_training_images(cfg)
    finally:
        DatasetCatalog.remove(dataset)
    crowdless = {
        image["file_name"].rpartition("/")[2]: sum(not a["iscrowd"] for a in image["annotations"])
        for image in images
    }
    assert crowdless == expected
