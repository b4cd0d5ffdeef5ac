"""Augmentations move the truth with the pixels, off changes nothing, and seeds reproduce."""

import cv2
import numpy as np
import pycocotools.mask as mask_util
import pytest
import torch
from detectron2.data import DatasetMapper
from detectron2.structures import BoxMode
from detectron2.utils.env import seed_all_rng

from resnest_d2 import get_cfg
from resnest_d2.config import check_config
from resnest_d2.data.albumentations_adapter import build_albumentations
from resnest_d2.data.augment import describe_augmentations
from resnest_d2.data.mapper import NamingDatasetMapper
from resnest_d2.engine.loading import build_training_loader
from resnest_d2.errors import UserError

HEIGHT, WIDTH = 90, 120
# Centre, half axes and angle of the object that fills each channel; they do not overlap.
ELLIPSES = ((30, 30, 24, 12, 30), (85, 28, 20, 14, -40), (70, 68, 30, 15, 10))
FLIPS = [["RandomRotate90", {}], ["HorizontalFlip", {}], ["RandomGamma", {"p": 0.5}]]
MOVING = {
    "scale": {"SCALE_JITTER": (0.4, 1.6)},
    "flips": {"VERTICAL_FLIP": True},
    "rotation": {"ROTATION": 180.0},
    "mosaic": {"MOSAIC": 1.0},
    "albumentations": {"ALBUMENTATIONS": FLIPS},
    "affine": {"ALBUMENTATIONS": [["Affine", {"rotate": [-30, 30], "shear": [-9, 9], "p": 1}]]},
    "all": {
        "SCALE_JITTER": (0.6, 1.5),
        "VERTICAL_FLIP": True,
        "ROTATION": 90.0,
        "COLOR_JITTER": 0.2,
        "MOSAIC": 0.5,
        "ALBUMENTATIONS": FLIPS,
    },
}


def outline(x, y, a, b, angle):
    """Points on an ellipse (72, 2)."""
    t, r = np.linspace(0, 2 * np.pi, 72, endpoint=False), np.deg2rad(angle)
    u, v = a * np.cos(t), b * np.sin(t)
    return np.stack([x + u * np.cos(r) - v * np.sin(r), y + u * np.sin(r) + v * np.cos(r)], 1)


@pytest.fixture
def image(tmp_path):
    """A function that writes an image with an object in each channel, and returns its record."""

    def write(kind="polygon", name="a"):
        grid = np.mgrid[:HEIGHT, :WIDTH].transpose(1, 2, 0)[..., ::-1] + 0.5  # centres of pixels
        pixels = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
        objects = []
        for channel, ellipse in enumerate(ELLIPSES):
            points = outline(*ellipse)
            flat = points.astype(np.float32)
            inside = [[cv2.pointPolygonTest(flat, tuple(p), False) >= 0 for p in r] for r in grid]
            pixels[..., channel] = 255 * np.array(inside)
            low, high = points.min(0), points.max(0)
            found = {"bbox": [*low, *high], "bbox_mode": BoxMode.XYXY_ABS, "category_id": channel}
            if kind == "polygon":
                found["segmentation"] = [points.reshape(-1)]
            if kind == "rle":
                found["segmentation"] = mask_util.encode(np.asfortranarray(inside, np.uint8))
            objects.append(found)
        path = str(tmp_path / f"{name}.png")
        cv2.imwrite(path, pixels)
        crowd = {**objects[0], "iscrowd": 1, "category_id": 1}
        return {
            "file_name": path,
            "image_id": 7,
            "height": HEIGHT,
            "width": WIDTH,
            "annotations": [*objects, crowd],
        }

    return write


def config(aug=(), **keys):
    """Config of a detector of masks with small training images."""
    cfg = get_cfg()
    cfg.MODEL.MASK_ON = True
    cfg.INPUT.MIN_SIZE_TRAIN = (HEIGHT,)
    cfg.MODEL.PIXEL_MEAN = [0.0, 0.0, 0.0]  # fills what an augmentation leaves empty
    cfg.merge_from_list([part for key, v in keys.items() for part in (key.replace("__", "."), v)])
    cfg.INPUT.AUG.update(aug)
    return cfg


def check_truth(mapped, *, atol):
    """Boxes are those of the pixels inside them, and no pixel of an object is outside."""
    truth = mapped["instances"]
    for channel, pixels in enumerate(mapped["image"].numpy() > 127):
        missed = pixels.copy()
        for box in truth.gt_boxes.tensor[truth.gt_classes == channel].numpy():
            x0, y0, x1, y1 = box.round().astype(int)
            ys, xs = np.nonzero(pixels[y0:y1, x0:x1])
            missed[max(y0 - 2, 0) : y1 + 2, max(x0 - 2, 0) : x1 + 2] = False
            if min(x1 - x0, y1 - y0) > 4:
                seen = [xs.min() + x0, ys.min() + y0, xs.max() + x0 + 1, ys.max() + y0 + 1]
                np.testing.assert_allclose(box, seen, atol=atol)
        assert missed.sum() < 5


@pytest.mark.parametrize("kind", ["polygon", "rle"])
@pytest.mark.parametrize("name", MOVING)
def test_truth_moves_with_the_pixels(image, name, kind):
    cfg = config(MOVING[name], INPUT__MASK_FORMAT="polygon" if kind == "polygon" else "bitmask")
    check_config(cfg)
    record = image(kind)
    mapper = NamingDatasetMapper(cfg, is_train=True, pool=[record])
    sizes = set()
    for seed in range(20):
        seed_all_rng(seed)
        mapped = mapper(record)
        check_truth(mapped, atol=2.6 if name == "all" else 1.5)  # resampled four times
        sizes.add(tuple(mapped["image"].shape[1:]))
        masks = mapped["instances"].gt_masks
        boxes = masks.get_bounding_boxes().tensor
        torch.testing.assert_close(boxes, mapped["instances"].gt_boxes.tensor, atol=1.0, rtol=0)
    assert max(h for h, _ in sizes) <= 120 and max(w for _, w in sizes) <= 120


def test_off_is_detectron2s_own_list():
    ours, theirs = NamingDatasetMapper(config()), DatasetMapper(config())
    assert repr(ours.augmentations).replace("PilResize", "Resize") == repr(theirs.augmentations)
    assert not ours.tight_boxes and not ours.rasterized and ours.mosaic is None
    assert describe_augmentations(config()) == "RANDOM_FLIP horizontal"


def test_nothing_is_augmented_in_tests():
    every = {**MOVING["all"], "MOSAIC": 1.0}
    ours = NamingDatasetMapper(config(every), is_train=False)
    assert [type(a).__name__ for a in ours.augmentations.augs] == ["PilResizeShortestEdge"]
    assert not ours.tight_boxes and ours.mosaic is None


@pytest.mark.parametrize("aug", ["rotation", "affine"])
def test_boxes_are_those_of_the_masks_in_a_detector_of_boxes(image, aug):
    mapper = NamingDatasetMapper(config(MOVING[aug], MODEL__MASK_ON=False), pool=[])
    for kind in ("rle", "polygon"):
        for seed in range(5):
            seed_all_rng(seed)
            mapped = mapper(image(kind))
            check_truth(mapped, atol=1.5)
            assert not mapped["instances"].has("gt_masks")


def test_boxes_without_masks_contain_their_objects(image):
    cfg = config(MOVING["rotation"], MODEL__MASK_ON=False)
    seed_all_rng(3)
    mapped = NamingDatasetMapper(cfg, pool=[])(image("boxes"))
    for box, channel in zip(
        mapped["instances"].gt_boxes.tensor, mapped["instances"].gt_classes, strict=True
    ):
        ys, xs = np.nonzero(mapped["image"][int(channel)].numpy() > 127)
        x0, y0, x1, y1 = box.tolist()
        assert x0 <= xs.min() + 1 and y0 <= ys.min() + 1 and x1 >= xs.max() and y1 >= ys.max()


@pytest.mark.parametrize("name", MOVING)
def test_images_without_objects_stay(image, name):
    record = {**image(), "annotations": []}
    mapped = NamingDatasetMapper(config(MOVING[name]), pool=[record])(record)
    assert len(mapped["instances"]) == 0 and mapped["image"].shape[0] == 3


def test_detectron2s_crop_takes_images_without_objects(image):
    mapper = NamingDatasetMapper(config(INPUT__CROP__ENABLED=True))
    assert len(mapper({**image(), "annotations": []})["instances"]) == 0
    for seed in range(5):
        seed_all_rng(seed)
        check_truth(mapper(image()), atol=1.5)


def test_both_flips_are_drawn_apart(image):
    mapper, record = NamingDatasetMapper(config({"VERTICAL_FLIP": True})), image()
    seed_all_rng(0)
    corners = [tuple(mapper(record)["instances"].gt_boxes.tensor[0, :2].int()) for _ in range(40)]
    assert len({(int(x), int(y)) for x, y in corners}) == 4


def test_saturation_knows_the_order_of_the_channels(image):
    pixels = {}
    for order in ("BGR", "RGB"):
        mapper = NamingDatasetMapper(config({"COLOR_JITTER": 0.9}, INPUT__FORMAT=order))
        seed_all_rng(5)
        mapped = mapper(image())["image"]
        pixels[order] = mapped if order == "RGB" else mapped.flip(0)
    assert (pixels["RGB"].int() - pixels["BGR"].int()).abs().max() <= 1
    assert len(pixels["RGB"].unique()) > 3  # not the image's own 0 and 255


def test_one_channel_is_augmented_too(image):
    aug = {**MOVING["all"], "MOSAIC": 1.0}
    cfg = config(aug, INPUT__FORMAT="L", MODEL__PIXEL_MEAN=[7.0], MODEL__PIXEL_STD=[1.0])
    check_config(cfg)
    record = image()
    mapper = NamingDatasetMapper(cfg, pool=[record])
    for seed in range(5):
        seed_all_rng(seed)
        assert mapper(record)["image"].shape[0] == 1


def test_what_a_rotation_leaves_empty_is_the_mean_of_the_pixels(image):
    cfg = config({"ROTATION": 45.0}, MODEL__PIXEL_MEAN=[10.0, 20.0, 30.0])
    seed_all_rng(0)
    assert NamingDatasetMapper(cfg)(image())["image"][:, 0, 0].tolist() == [10, 20, 30]


def test_keypoints_outside_their_part_are_unlabelled(image):
    cfg = config({"MOSAIC": 1.0}, INPUT__RANDOM_FLIP="none")
    record = image()
    record["annotations"] = record["annotations"][:1]
    record["annotations"][0]["keypoints"] = [30.5, 30.5, 2]  # the object's centre
    args = NamingDatasetMapper.from_config(cfg)
    args |= {"use_keypoint": True, "pool": [record]}
    mapper, labelled = NamingDatasetMapper(is_train=True, **args_without(args, "is_train")), 0
    for seed in range(10):
        seed_all_rng(seed)
        mapped = mapper(record)
        for (x, y, shown), box in zip(
            mapped["instances"].gt_keypoints.tensor[:, 0], mapped["instances"].gt_boxes, strict=True
        ):
            assert not shown or mapped["image"][0, int(y), int(x)] > 127
            assert not shown or (box[0] <= x <= box[2] and box[1] <= y <= box[3])
            labelled += int(shown > 0)
    assert labelled > 10


def args_without(args, name):
    return {key: value for key, value in args.items() if key != name}


def batches(cfg, images, number=4):
    loader = iter(build_training_loader(cfg, images))
    return [image["image"] for _ in range(number) for image in next(loader)]


def test_seeds_reproduce_and_workers_differ(image):
    cfg = config({**MOVING["all"], "MOSAIC": 1.0}, SOLVER__IMS_PER_BATCH=2)
    images = [image(name=name) for name in "ab"]
    for workers in (0, 2):
        cfg.DATALOADER.NUM_WORKERS = workers
        runs = []
        for seed in (1, 1, 2):
            seed_all_rng(seed)
            runs.append(batches(cfg, images))
        same = [torch.equal(x, y) for x, y in zip(runs[0], runs[1], strict=True)]
        assert all(same)
        assert not all(torch.equal(x, y) for x, y in zip(runs[0], runs[2], strict=True))
        assert len({x.numpy().tobytes() for x in runs[0]}) == len(runs[0])


def test_a_sampler_by_classes_reads_the_packed_images(image):
    keys = {"DATALOADER__SAMPLER_TRAIN": "RepeatFactorTrainingSampler"}
    keys |= {"SOLVER__IMS_PER_BATCH": 2, "DATALOADER__NUM_WORKERS": 0}
    assert len(batches(config({"MOSAIC": 1.0}, **keys), [image()])) == 8


WRONG = {
    "negative": ({"COLOR_JITTER": -0.1}, "COLOR_JITTER is -0.1; choose 0 to 1"),
    "no range": ({"SCALE_JITTER": (2.0, 0.5)}, r"SCALE_JITTER is \(2.0, 0.5\); choose \(\) for"),
    "one factor": ({"SCALE_JITTER": (2.0,)}, "the smallest and the largest factor"),
    "angle": ({"ROTATION": 270.0}, "ROTATION is 270.0; choose degrees from 0"),
    "probability": ({"MOSAIC": 1.5}, "MOSAIC is 1.5; choose 0 to 1"),
    "no list": ({"ALBUMENTATIONS": ["Blur"]}, "a list of .name of a transform"),
    "dotted": ({"ALBUMENTATIONS": [["os.system", {}]]}, "a list of .name of a transform"),
}
TOGETHER = {
    "cropped twice": ({"SCALE_JITTER": (0.5, 2.0)}, {"INPUT__CROP__ENABLED": True}, "set it False"),
    "flipped twice": (
        {"VERTICAL_FLIP": True},
        {"INPUT__RANDOM_FLIP": "vertical"},
        "RANDOM_FLIP is 'vertical', too",
    ),
    "keypoints": ({"VERTICAL_FLIP": True}, {"MODEL__KEYPOINT_ON": True}, "swaps left and right"),
    "keypoints, theirs": (
        {},
        {"INPUT__RANDOM_FLIP": "vertical", "MODEL__KEYPOINT_ON": True},
        "INPUT.RANDOM_FLIP flips images vertically",
    ),
    "segments": (
        {"ROTATION": 9.0},
        {"MODEL__META_ARCHITECTURE": "PanopticFPN"},
        "does not move the semantic",
    ),
    "YUV": ({"COLOR_JITTER": 0.1}, {"INPUT__FORMAT": "YUV-BT.601"}, "needs pixels of 0 to 255"),
}


@pytest.mark.parametrize("fault", [*WRONG, *TOGETHER])
def test_wrong_keys_end_in_a_sentence(fault):
    aug, *keys, message = (WRONG | TOGETHER)[fault]
    with pytest.raises(UserError, match=message):
        check_config(config(aug, **(keys[0] if keys else {})))


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("Blurr", {}, "'Blurr', which is no transform of albumentations"),
        ("Compose", {}, "which is no transform"),
        ("Lambda", {}, "which cannot be used here"),
        ("TextImage", {"font_path": "/etc/passwd"}, "no functions and no files"),
        ("HistogramMatching", {}, "which cannot be used here"),
        ("BBoxSafeRandomCrop", {}, "which cannot be used here"),
        ("Normalize", {}, "keep 8 bits"),
        ("MaskDropout", {}, "it needs mask beside the image"),
        ("Blur", {"blur": 3}, "has no argument 'blur'; choose from blur_limit"),
        ("Blur", {"p": 3}, "does not take {'p': 3}"),
    ],
)
def test_only_transforms_of_albumentations_are_built(name, arguments, message):
    with pytest.raises(UserError, match=message):
        NamingDatasetMapper(config({"ALBUMENTATIONS": [[name, arguments]]}))


def test_missing_albumentations_names_the_extra(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "albumentations", None)
    with pytest.raises(UserError, match=r"pip install 'resnest-d2\[albumentations\]'"):
        NamingDatasetMapper(config({"ALBUMENTATIONS": [["Blur", {}]]}))


def test_colours_alone_leave_polygons_and_keypoints():
    colours = {"ALBUMENTATIONS": [["Blur", {}]]}
    mapper = NamingDatasetMapper(config(colours))
    assert not mapper.rasterized and not mapper.tight_boxes
    args = {"ALBUMENTATIONS": [["HorizontalFlip", {}]]}
    assert NamingDatasetMapper(config(args)).rasterized
    with pytest.raises(UserError, match="HorizontalFlip, which moves objects, but MODEL.KEYPOINT"):
        build_albumentations(args["ALBUMENTATIONS"], bgr=True, keypoints=True)
    assert build_albumentations(colours["ALBUMENTATIONS"], bgr=True, keypoints=True)
