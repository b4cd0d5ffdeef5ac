"""A run of any size on made images, with every kind of mistake: for tests, and to time the report.

``python tools/benchmarking/made_run.py FOLDER --images 5000 --classes 80 --masks`` writes one of
COCO's size. Each image has a seed of its own, so that nothing has to fit into memory.
"""

import argparse
import json
import struct
import zlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import cv2
import numpy as np
import pycocotools.mask as mask_util

from resnest_d2.report import DataSet

WIDTH, HEIGHT = 480, 360
OBJECTS = 7.3  # per image, COCO's
DETECTIONS = (20, 101)  # per image, from and below
METRICS = {"AP": 12.5, "AP50": 25.0, "AP75": 0.04}
_TURNS = np.linspace(0, 2 * np.pi, 24, endpoint=False)


def write_run(
    folder: Path,
    *,
    images: int,
    classes: int,
    masks: bool = False,
    names: list[str] | None = None,
    detections: tuple[int, int] = DETECTIONS,
    draw: Callable[[Path, int, list], None] | None = None,
) -> DataSet:
    """Writes images, annotations and detections of a run; returns its dataset.

    Args:
        folder: a new folder.
        images: number of images.
        classes: number of classes.
        masks: whether objects and detections have masks.
        names: of the classes.
        detections: number of detections per image, from and below.
        draw: writes an image, given its path, number and boxes; by default like a photograph.
    """
    (folder / "images").mkdir(parents=True)
    draw = draw or _photograph()
    names = names or [f"class {k}" for k in range(classes)]
    lists: dict[str, Iterable[dict]] = {
        "images": _images(images),
        "annotations": _annotations(images, classes, masks),
        "categories": ({"id": k, "name": name} for k, name in enumerate(names, 1)),
    }
    with open(folder / "data.json", "w") as file:
        for i, (key, entries) in enumerate(lists.items()):
            file.write(f'{"," if i else "{"}"{key}": ')
            _write(file, entries)
        file.write("}")
    inference = folder / "inference" / "made"
    inference.mkdir(parents=True)
    with open(inference / "coco_instances_results.json", "w") as file:
        numbers = range(1, images + 1)
        _write(file, (d for i in numbers for d in _detections(i, classes, masks, detections)))
    for i in range(1, images + 1):
        draw(folder / "images" / _name(i), i, _objects(i, classes)[0])
    return DataSet("made", str(folder / "data.json"), str(folder / "images"))


def _write(file, entries: Iterable[dict]) -> None:
    """Writes a list one entry a line, as :func:`read_detections` reads it."""
    file.write("[")
    for i, entry in enumerate(entries):
        file.write(f"{',' if i else ''}\n{json.dumps(entry)}")
    file.write("\n]")


def read_detections(path: Path) -> Iterator[dict]:
    """Yields the detections of a made run; the file is never in memory as a whole."""
    with open(path) as file:
        for line in file:
            if line[0] == "{":
                yield json.loads(line.rstrip(",\n"))


def write_results(folder: Path, dataset: DataSet, *, masks: bool = False) -> dict:
    """Scores the detections with pycocotools' metrics and writes results.json."""
    from resnest_d2.data import register_coco

    register_coco(*dataset)
    evaluator = evaluator_of(folder, dataset, masks=masks)
    results = {dataset.name: evaluator.evaluate()}
    (folder / "results.json").write_text(json.dumps(results))
    return results


def evaluator_of(folder: Path, dataset: DataSet, *, masks: bool):
    """The evaluator of a registered made run, after the last image."""
    from resnest_d2.engine.evaluation import CocoEvaluator

    images: dict[int, list] = {}
    for detection in read_detections(folder / "inference/made/coco_instances_results.json"):
        detection["category_id"] -= 1
        images.setdefault(detection["image_id"], []).append(detection)
    tasks = ("bbox", "segm") if masks else ("bbox",)
    evaluator = CocoEvaluator(dataset.name, tasks=tasks, distributed=False, output_dir=None)
    evaluator.reset()
    evaluator._predictions = [{"image_id": i, "instances": d} for i, d in images.items()]
    return evaluator


def _name(image: int) -> str:
    return f"{image:06}.jpg"


def _images(number: int) -> Iterator[dict]:
    for i in range(1, number + 1):
        yield {"id": i, "file_name": _name(i), "width": WIDTH, "height": HEIGHT}


def _objects(image: int, classes: int) -> tuple[list[list[float]], list[int]]:
    """Boxes and categories of the objects in an image."""
    rng = np.random.default_rng([0, image])
    boxes = [_box(rng) for _ in range(rng.poisson(OBJECTS))]
    return boxes, rng.integers(1, classes + 1, len(boxes)).tolist()


def _annotations(images: int, classes: int, masks: bool) -> Iterator[dict]:
    number = 0
    for i in range(1, images + 1):
        for box, category in zip(*_objects(i, classes), strict=True):
            number += 1
            mask = {"segmentation": [_ellipse(box)]} if masks else {}
            common = {"image_id": i, "category_id": category, "bbox": box, "iscrowd": 0}
            yield {"id": number, **common, "area": box[2] * box[3], **mask}


def _photograph() -> Callable[[Path, int, list], None]:
    """Writes images of noise of every scale, which JPEG compresses like a photograph."""
    rng = np.random.default_rng(0)
    size = (4 * WIDTH, 4 * HEIGHT)
    noise = np.zeros((size[1], size[0], 3), np.float32)
    for side in (4, 9, 20, 45, 100, 220, 480, 1000):
        grid = rng.normal(0, 60 / side**0.25, (side, side, 3)).astype(np.float32)
        noise += cv2.resize(grid, size, interpolation=cv2.INTER_CUBIC)
    texture = np.clip(noise + 120, 0, 255).astype(np.uint8)

    def draw(path: Path, image: int, boxes: list) -> None:
        rng = np.random.default_rng([1, image])
        y, x = rng.integers(0, 3 * HEIGHT), rng.integers(0, 3 * WIDTH)
        pixels = texture[y : y + HEIGHT, x : x + WIDTH].copy()
        for box in boxes:
            points = np.array(_ellipse(box)).reshape(-1, 1, 2).round().astype(np.int32)
            cv2.fillPoly(pixels, [points], rng.integers(0, 256, 3).tolist())
        cv2.imwrite(str(path), pixels, [cv2.IMWRITE_JPEG_QUALITY, 80])

    return draw


def draw_number(path: Path, image: int, boxes: list) -> None:
    """Writes an image of 180 bytes: a black PNG of 1 bit a pixel, whose first 32 are its number.

    It has another number, and so other pixels, than every other image, as photographs have.
    """
    row = bytes((WIDTH + 7) // 8 + 1)  # begins with the number of PNG's filter, none
    pixels = zlib.compress(row[:1] + struct.pack(">I", image) + row[5:] + row * (HEIGHT - 1), 1)
    header = struct.pack(">IIBBBBB", WIDTH, HEIGHT, 1, 0, 0, 0, 0)
    with open(path, "wb") as file:
        file.write(b"\x89PNG\r\n\x1a\n")
        for kind, data in ((b"IHDR", header), (b"IDAT", pixels), (b"IEND", b"")):
            check = struct.pack(">I", zlib.crc32(kind + data))
            file.write(struct.pack(">I", len(data)) + kind + data + check)


def _box(rng: np.random.Generator) -> list[float]:
    w, h = np.exp(rng.uniform(np.log(12), np.log(220), 2))
    x, y = rng.uniform(0, WIDTH - w), rng.uniform(0, HEIGHT - h)
    return [round(float(v), 2) for v in (x, y, w, h)]


def _ellipse(box: list[float]) -> list[float]:
    x, y, w, h = box
    points = np.stack([x + w * (0.5 + np.cos(_TURNS) / 2), y + h * (0.5 + np.sin(_TURNS) / 2)], 1)
    return points.ravel().round(2).tolist()


def _moved(rng: np.random.Generator, box: list[float], share: float) -> list[float]:
    """The box moved by about a share of its sides, inside the image."""
    x, y, w, h = np.array(box) + rng.normal(0, share, 4) * np.tile(box[2:], 2)
    w, h = np.clip((w, h), 4, (WIDTH, HEIGHT))
    x, y = np.clip((x, y), 0, (WIDTH - w, HEIGHT - h))
    return [round(float(v), 2) for v in (x, y, w, h)]


def _detections(image: int, classes: int, masks: bool, numbers: tuple[int, int]) -> Iterator[dict]:
    """Detections of an image: most objects, some poorly located or confused, the rest false."""
    rng = np.random.default_rng([2, image])
    found: list[tuple[int, list[float], float]] = []
    for box, category in zip(*_objects(image, classes), strict=True):
        how = rng.random()
        if how < 0.25:
            continue  # missed
        if how < 0.32:
            category = int(rng.integers(1, classes + 1))
        found.append((category, _moved(rng, box, 0.25 if how > 0.9 else 0.04), rng.beta(6, 2)))
    for _ in range(max(int(rng.integers(*numbers)) - len(found), 0)):
        found.append((int(rng.integers(1, classes + 1)), _box(rng), rng.beta(1.2, 6)))
    for category, box, score in found:
        yield {
            "image_id": image,
            "category_id": category,
            "bbox": box,
            "score": round(float(score), 5),
            **({"segmentation": _rle(box)} if masks else {}),
        }


def _rle(box: list[float]) -> dict:
    (rle,) = mask_util.frPyObjects([_ellipse(box)], HEIGHT, WIDTH)
    return {"size": rle["size"], "counts": rle["counts"].decode()}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--images", type=int, default=5000)
    parser.add_argument("--classes", type=int, default=80)
    parser.add_argument("--masks", action="store_true")
    args = parser.parse_args()
    made = write_run(args.folder, images=args.images, classes=args.classes, masks=args.masks)
    write_results(args.folder, made, masks=args.masks)
