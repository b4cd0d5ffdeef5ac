"""The built-in data set: shapes on textured pictures, so that everything runs with no download.

Drawn by OpenCV from a fixed seed: the same pixels and annotations on every machine with the same
OpenCV. Written once into the cache folder as PNG pictures and COCO JSON; the masks (RLE) are exact,
also where a shape hides part of another.
"""

import json
import os
import shutil
import tempfile

import cv2
import numpy as np
import pycocotools.mask as mask_util
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.datasets import load_coco_json
from iopath.common.file_io import file_lock

CLASSES = ("circle", "square", "triangle", "star", "cross")
SPLITS = {"shapes_train": (0, 600), "shapes_val": (1, 100)}  # name: seed, pictures
VERSION = 1  # of the drawing; raise it when a pixel changes
MIN_VISIBLE = 0.5  # part of every shape that stays in sight


def cache_dir() -> str:
    """Folder of everything this package keeps: RESNEST_D2_CACHE, else the user's cache folder."""
    default = os.path.join(os.environ.get("XDG_CACHE_HOME", "~/.cache"), "resnest_d2")
    return os.path.abspath(os.path.expanduser(os.environ.get("RESNEST_D2_CACHE", default)))


def shapes_dir() -> str:
    """Folder of the data set; another for each version of the drawing and of OpenCV."""
    return os.path.join(cache_dir(), f"shapes-v{VERSION}-opencv{cv2.__version__}")


def prepare_shapes() -> str:
    """Draw the data set unless it is there; safe when several processes call it together.

    Returns:
        Its folder, with ``<split>.json`` and the pictures in ``<split>/``.
    """
    target = shapes_dir()
    os.makedirs(os.path.dirname(target), exist_ok=True)
    with file_lock(target):
        if not os.path.isdir(target):
            work = tempfile.mkdtemp(dir=os.path.dirname(target))
            try:
                for split, (seed, number) in SPLITS.items():
                    _write_split(work, split, seed=seed, number=number)
                os.chmod(work, 0o755)  # mkdtemp's 0700 would shut others out
                os.rename(work, target)
            except BaseException:
                shutil.rmtree(work, ignore_errors=True)
                raise
    return target


def register_shapes() -> None:
    """Register shapes_train and shapes_val; they are drawn when first used."""
    for split in SPLITS:
        if split in DatasetCatalog:
            continue
        DatasetCatalog.register(split, lambda split=split: _load(split))
        MetadataCatalog.get(split).set(
            json_file=os.path.join(shapes_dir(), f"{split}.json"),
            image_root=os.path.join(shapes_dir(), split),
            evaluator_type="coco",
            thing_classes=list(CLASSES),
            mask_format="bitmask",
        )


def _load(split: str) -> list[dict]:
    prepare_shapes()
    metadata = MetadataCatalog.get(split)
    return load_coco_json(metadata.json_file, metadata.image_root, split)


def _write_split(folder: str, split: str, *, seed: int, number: int) -> None:
    os.makedirs(os.path.join(folder, split))
    images, annotations = [], []
    for index in range(number):
        picture, shapes = draw_picture(np.random.default_rng([VERSION, seed, index]))
        name = f"{index:04d}.png"
        if not cv2.imwrite(os.path.join(folder, split, name), picture):
            raise OSError(f"OpenCV could not write {name} into {folder}; is the disk full?")
        height, width = picture.shape[:2]
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


def draw_picture(rng: np.random.Generator) -> tuple[np.ndarray, list[tuple[int, np.ndarray]]]:
    """One picture with its shapes.

    Returns:
        The BGR picture, uint8 (H, W, 3), and for each shape its class index and the mask of what
        is seen of it, uint8 (H, W) of 0 and 1.
    """
    height, width = (int(v) for v in rng.integers(160, 225, 2))
    picture = _texture(rng, height, width, rng.integers(40, 216, 3), contrast=30)
    shapes: list[tuple[int, np.ndarray]] = []
    areas: list[int] = []
    for _ in range(int(rng.integers(2, 8))):
        category = int(rng.integers(len(CLASSES)))
        mask = _draw_shape(rng, category, height, width)
        rest = [(c, seen & (1 - mask)) for c, seen in shapes]
        kept = all(m.sum() >= MIN_VISIBLE * a for (_, m), a in zip(rest, areas, strict=True))
        inside = mask.sum()
        if not kept or inside < 80:
            continue
        shapes = [*rest, (category, mask)]
        areas.append(int(inside))
        # A colour away from what is behind, so that the shape can be seen at all.
        behind = picture[mask == 1].mean(0)
        colour = (behind + rng.integers(70, 186, 3)) % 256
        fill = _texture(rng, height, width, colour, contrast=12)
        picture = np.where(mask[..., None] == 1, fill, picture)
    return picture, shapes


def _texture(
    rng: np.random.Generator, height: int, width: int, colour: np.ndarray, *, contrast: int
) -> np.ndarray:
    """Coarse and fine noise around a BGR colour, uint8 (H, W, 3)."""
    coarse = rng.integers(-contrast, contrast + 1, (5, 5, 3)).astype(np.float32)
    coarse = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_LINEAR)
    fine = rng.integers(-contrast // 2, contrast // 2 + 1, (height, width, 1))
    return np.clip(np.rint(coarse) + fine + np.rint(colour), 0, 255).astype(np.uint8)


def _draw_shape(rng: np.random.Generator, category: int, height: int, width: int) -> np.ndarray:
    """Mask of one shape of random size, place and turn, uint8 (H, W) of 0 and 1."""
    radius = int(rng.integers(10, 45))
    centre = np.array([rng.integers(8, width - 8), rng.integers(8, height - 8)])
    turn = rng.uniform(0, 2 * np.pi)
    mask = np.zeros((height, width), np.uint8)
    name = CLASSES[category]
    if name == "circle":
        cv2.circle(mask, tuple(int(v) for v in centre), radius, 1, cv2.FILLED)
        return mask
    if name == "cross":
        arm = 0.36  # half its width
        corners = np.array([[1, -arm], [1, arm], [arm, arm]])  # a quarter of the outline
        turn_90 = np.array([[0, 1], [-1, 0]])
        points = np.concatenate([corners @ np.linalg.matrix_power(turn_90, k) for k in range(4)])
    else:
        corners = {"square": 4, "triangle": 3, "star": 10}[name]
        angles = 2 * np.pi * np.arange(corners) / corners
        points = np.stack([np.cos(angles), np.sin(angles)], 1)
        if name == "star":
            points[1::2] *= 0.42
    turned = points @ np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]])
    polygon = np.rint(centre + radius * turned).astype(np.int32)
    cv2.fillPoly(mask, [polygon], 1)
    return mask
