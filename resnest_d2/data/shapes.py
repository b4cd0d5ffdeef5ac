"""Built-in dataset of shapes on textured images, which needs no download.

OpenCV draws it from a fixed seed, so machines with the same OpenCV get the same pixels and
annotations. It is written once into the cache folder as PNG images and COCO JSON. The masks (RLE)
are exact, also if a shape hides part of another.
"""

import colorsys
import json
import os
import shutil
import tempfile

import cv2
import numpy as np
import pycocotools.mask as mask_util
from detectron2.data import DatasetCatalog, MetadataCatalog
from iopath.common.file_io import file_lock

from resnest_d2.files import make_folder, writing

from .coco import load_images

CORNERS = {"circle": 0, "square": 4, "triangle": 3}
CLASSES = tuple(CORNERS)
# Warm circles, green squares, blue triangles, in degrees. A detector from scratch learns colours
# within minutes; with random colours it classified only two of three shapes correctly.
HUES = {"circle": (-30, 40), "square": (80, 160), "triangle": (200, 280)}
SPLITS = {"shapes_train": (0, 600), "shapes_val": (1, 100)}  # name: seed, images
VERSION = 1  # of the drawing; increase it when a pixel changes
SIZE = (160, 160)  # height, width; all equal, so batches need no padding
MIN_VISIBLE = 0.6  # visible share of every shape


def cache_dir() -> str:
    """Cache folder of this package: RESNEST_D2_CACHE, or a folder in the user's cache."""
    default = os.path.join(os.environ.get("XDG_CACHE_HOME", "~/.cache"), "resnest_d2")
    path = os.path.expanduser(os.environ.get("RESNEST_D2_CACHE", default))
    if path.startswith("~"):  # no home folder, as of a user without a name in a container
        path = os.path.join(tempfile.gettempdir(), "resnest_d2")
    return os.path.abspath(path)


def shapes_dir() -> str:
    """Folder of the dataset for this version of the drawing and of OpenCV."""
    return os.path.join(cache_dir(), f"shapes-v{VERSION}-opencv{cv2.__version__}")


def prepare_shapes() -> str:
    """Draws the dataset if it does not exist. Several processes may call it at the same time.

    Returns:
        Its folder, with ``<split>.json`` and the images in ``<split>/``.

    Raises:
        WriteError: the cache folder (RESNEST_D2_CACHE) cannot be written to.
    """
    target = shapes_dir()
    if os.path.isdir(target):  # also in a cache that only another user may write to
        return target
    make_folder(os.path.dirname(target))
    with writing(target), file_lock(target):
        if not os.path.isdir(target):
            work = tempfile.mkdtemp(dir=os.path.dirname(target))
            try:
                for split, (seed, number) in SPLITS.items():
                    _write_split(work, split, seed=seed, number=number)
                os.chmod(work, 0o755)  # mkdtemp's 0700 excludes other users
                os.rename(work, target)
            except BaseException:
                shutil.rmtree(work, ignore_errors=True)
                raise
    return target


def register_shapes() -> None:
    """Registers shapes_train and shapes_val. They are drawn when they are first used."""
    for split in SPLITS:
        if split in DatasetCatalog:
            continue
        DatasetCatalog.register(split, lambda split=split: _load(split))
        MetadataCatalog.get(split).set(
            json_file=os.path.join(shapes_dir(), f"{split}.json"),
            image_root=os.path.join(shapes_dir(), split),
            evaluator_type="coco",
            thing_classes=list(CLASSES),
            thing_dataset_id_to_contiguous_id={i + 1: i for i in range(len(CLASSES))},
            mask_format="bitmask",
        )


def _load(split: str) -> list[dict]:
    prepare_shapes()
    metadata = MetadataCatalog.get(split)
    return load_images(metadata.json_file, metadata.image_root)


def _write_split(folder: str, split: str, *, seed: int, number: int) -> None:
    os.makedirs(os.path.join(folder, split))
    images: list[dict] = []
    annotations: list[dict] = []
    for index in range(number):
        image, shapes = draw_image(np.random.default_rng([VERSION, seed, index]))
        name = f"{index:04d}.png"
        with open(os.path.join(folder, split, name), "wb") as file:
            file.write(cv2.imencode(".png", image)[1].tobytes())  # imwrite would hide a full disk
        height, width = image.shape[:2]
        images.append({"id": index + 1, "file_name": name, "height": height, "width": width})
        for category, mask in shapes:
            rle = mask_util.encode(np.asfortranarray(mask))
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": index + 1,
                    "category_id": category + 1,
                    "bbox": mask_util.toBbox(rle).tolist(),
                    "area": int(mask.sum()),
                    "iscrowd": 0,
                    "segmentation": {"size": rle["size"], "counts": rle["counts"].decode()},
                }
            )
    categories = [{"id": i, "name": name} for i, name in enumerate(CLASSES, 1)]
    info = {"description": f"resnest_d2 {split}, version {VERSION}"}
    with open(os.path.join(folder, f"{split}.json"), "w") as file:
        json.dump(
            {
                "info": info,
                "images": images,
                "annotations": annotations,
                "categories": categories,
            },
            file,
        )


def draw_image(rng: np.random.Generator) -> tuple[np.ndarray, list[tuple[int, np.ndarray]]]:
    """Draws an image with shapes.

    Returns:
        The BGR image, uint8 (H, W, 3), and for each shape its class index and the mask of its
        visible part, uint8 (H, W) of 0 and 1.
    """
    height, width = SIZE
    grey = int(rng.integers(60, 196))
    image = _texture(rng, grey + rng.integers(-20, 21, 3), contrast=30)
    shapes: list[tuple[int, np.ndarray]] = []
    areas: list[int] = []
    for _ in range(int(rng.integers(4, 11))):
        category = int(rng.integers(len(CLASSES)))
        mask = _draw_shape(rng, category)
        rest = [(c, seen & (1 - mask)) for c, seen in shapes]
        kept = all(m.sum() >= MIN_VISIBLE * a for (_, m), a in zip(rest, areas, strict=True))
        inside = mask.sum()
        if not kept or inside < 200:
            continue
        shapes = [*rest, (category, mask)]
        areas.append(int(inside))
        hue = int(rng.integers(*HUES[CLASSES[category]])) % 360 / 360
        saturation, value = (int(v) / 100 for v in rng.integers(55, 101, 2))
        rgb = colorsys.hsv_to_rgb(hue, saturation, value)
        fill = _texture(rng, 255 * np.array(rgb[::-1]), contrast=20)
        image = np.where(mask[..., None] == 1, fill, image)
    return image, shapes


def _texture(rng: np.random.Generator, colour: np.ndarray, *, contrast: int) -> np.ndarray:
    """Draws coarse and fine noise around a BGR colour, uint8 (H, W, 3)."""
    height, width = SIZE
    coarse = rng.integers(0, 2 * contrast + 1, (5, 5, 3)).astype(np.uint8)
    # exact, so it is the same on every processor
    coarse = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_LINEAR_EXACT)
    fine = rng.integers(-contrast // 2, contrast // 2 + 1, (height, width, 1)) - contrast
    return np.clip(coarse + fine + np.rint(colour), 0, 255).astype(np.uint8)


def _draw_shape(rng: np.random.Generator, category: int) -> np.ndarray:
    """Draws a shape of random size, position and rotation as a mask, uint8 (H, W) of 0 and 1."""
    height, width = SIZE
    radius = int(rng.integers(12, 44))
    centre = np.array([rng.integers(8, width - 8), rng.integers(8, height - 8)])
    turn = rng.uniform(0, 2 * np.pi)
    mask = np.zeros((height, width), np.uint8)
    corners = CORNERS[CLASSES[category]]
    if not corners:
        cv2.circle(mask, tuple(int(v) for v in centre), radius, 1, cv2.FILLED)
        return mask
    angles = turn + 2 * np.pi * np.arange(corners) / corners
    points = centre + radius * np.stack([np.cos(angles), np.sin(angles)], 1)
    cv2.fillPoly(mask, [np.rint(points).astype(np.int32)], 1)
    return mask
