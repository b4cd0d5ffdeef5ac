import cv2
import numpy as np
import pytest
from detectron2.data import transforms as T
from PIL import Image

from resnest_d2 import get_cfg
from resnest_d2.data.mapper import NamingDatasetMapper
from resnest_d2.data.resize import Cv2ResizeTransform, with_resizer

IMAGE = np.random.default_rng(0).integers(0, 256, (60, 100, 3), dtype=np.uint8)


def test_pixels_are_opencvs():
    resize = Cv2ResizeTransform(60, 100, 30, 50)
    expected = cv2.resize(IMAGE, (50, 30), interpolation=cv2.INTER_LINEAR)
    assert np.array_equal(resize.apply_image(IMAGE), expected)
    pil = T.ResizeTransform(60, 100, 30, 50, Image.BILINEAR).apply_image(IMAGE)
    assert np.abs(pil.astype(int) - expected).max() > 20  # PIL smooths when it shrinks
    grey = IMAGE[:, :, :1]
    assert np.array_equal(resize.apply_image(grey)[:, :, 0], cv2.resize(grey, (50, 30)))


def test_masks_and_boxes_are_detectron2s():
    ours, theirs = Cv2ResizeTransform(60, 100, 30, 50), T.ResizeTransform(60, 100, 30, 50)
    labels = IMAGE[:, :, 0]
    assert np.array_equal(ours.apply_segmentation(labels), theirs.apply_segmentation(labels))
    assert ours.apply_box([[10, 20, 30, 40]]).tolist() == [[5, 10, 15, 20]]


def sizes(cfg, is_train):
    resize = NamingDatasetMapper(cfg, is_train=is_train).augmentations.augs[0]
    np.random.seed(0)
    return {resize.get_transform(IMAGE).apply_image(IMAGE).shape for _ in range(40)}


@pytest.mark.parametrize("is_train", [False, True])
@pytest.mark.parametrize("sampling", ["choice", "range"])
def test_both_mappers_follow_the_key_and_draw_the_same_sizes(is_train, sampling):
    cfg = get_cfg()
    cfg.INPUT.MIN_SIZE_TRAIN, cfg.INPUT.MIN_SIZE_TRAIN_SAMPLING = (20, 40), sampling
    cfg.INPUT.MIN_SIZE_TEST = 30
    by = {}
    for cfg.INPUT.RESIZE in ("pil", "cv2"):
        mapper = NamingDatasetMapper(cfg, is_train=is_train)
        chosen = mapper.augmentations.augs[0].get_transform(IMAGE)
        assert isinstance(chosen, Cv2ResizeTransform) is (cfg.INPUT.RESIZE == "cv2")
        by[cfg.INPUT.RESIZE] = sizes(cfg, is_train)
    assert by["cv2"] == by["pil"]


def test_size_zero_leaves_the_image():
    (resize,) = with_resizer([T.ResizeShortestEdge(0, 100, "choice")], "cv2")
    assert np.array_equal(resize.get_transform(IMAGE).apply_image(IMAGE), IMAGE)


def test_unknown_resizer():
    cfg = get_cfg()
    cfg.INPUT.RESIZE = "nearest"
    with pytest.raises(ValueError, match="INPUT.RESIZE is 'nearest'; choose from"):
        NamingDatasetMapper(cfg, is_train=True)
