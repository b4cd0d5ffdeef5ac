"""A run of any size on made images, with every kind of mistake: for tests, and to time the report.

``python tests/report/many.py FOLDER --images 5000 --classes 80 --masks`` writes one of COCO's size.
"""

import argparse
import json
from pathlib import Path

import cv2
import numpy as np
import pycocotools.mask as mask_util

from resnest_d2.report import DataSet

WIDTH, HEIGHT = 480, 360
_TURNS = np.linspace(0, 2 * np.pi, 24, endpoint=False)


def write_run(
    folder: Path, *, images: int, classes: int, masks: bool = False, names: list[str] | None = None
) -> DataSet:
    """Writes images, annotations and detections of a run; returns its dataset."""
    rng = np.random.default_rng(0)
    (folder / "images").mkdir(parents=True)
    texture = _texture(rng)
    data: dict = {"images": [], "annotations": []}
    names = names or [f"class {k}" for k in range(classes)]
    data["categories"] = [{"id": k + 1, "name": name} for k, name in enumerate(names)]
    found = []
    for i in range(1, images + 1):
        name = f"{i:06}.jpg"
        data["images"].append({"id": i, "file_name": name, "width": WIDTH, "height": HEIGHT})
        objects = [_box(rng) for _ in range(rng.poisson(7))]
        kinds = rng.integers(1, classes + 1, len(objects)).tolist()
        for category, box in zip(kinds, objects, strict=True):
            mask = {"segmentation": [_ellipse(box)]} if masks else {}
            number = len(data["annotations"]) + 1
            common = {"image_id": i, "category_id": category, "bbox": box, "iscrowd": 0}
            data["annotations"].append({"id": number, **common, "area": _area(box), **mask})
        found += _detections(rng, i, objects, kinds, classes=classes, masks=masks)
        _draw(folder / "images" / name, rng, texture, objects)
    (folder / "data.json").write_text(json.dumps(data))
    inference = folder / "inference" / "made"
    inference.mkdir(parents=True)
    (inference / "coco_instances_results.json").write_text(json.dumps(found))
    return DataSet("made", str(folder / "data.json"), str(folder / "images"))


def write_results(folder: Path, dataset: DataSet, *, masks: bool = False) -> dict:
    """Scores the detections with pycocotools' metrics and writes results.json."""
    from resnest_d2.data import register_coco
    from resnest_d2.engine.evaluation import CocoEvaluator

    register_coco(*dataset)
    tasks = ("bbox", "segm") if masks else ("bbox",)
    evaluator = CocoEvaluator(dataset.name, tasks=tasks, output_dir=None)
    evaluator.reset()
    found = json.loads((folder / "inference/made/coco_instances_results.json").read_text())
    images: dict[int, list] = {}
    for detection in found:
        number = detection["category_id"] - 1
        images.setdefault(detection["image_id"], []).append({**detection, "category_id": number})
    evaluator._predictions = [{"image_id": i, "instances": d} for i, d in images.items()]
    results = {dataset.name: evaluator.evaluate()}
    (folder / "results.json").write_text(json.dumps(results))
    return results


def _texture(rng: np.random.Generator) -> np.ndarray:
    """Noise of every scale, which JPEG compresses like a photograph."""
    size = (4 * WIDTH, 4 * HEIGHT)
    noise = np.zeros((size[1], size[0], 3), np.float32)
    for side in (4, 9, 20, 45, 100, 220, 480, 1000):
        grid = rng.normal(0, 60 / side**0.25, (side, side, 3)).astype(np.float32)
        noise += cv2.resize(grid, size, interpolation=cv2.INTER_CUBIC)
    return np.clip(noise + 120, 0, 255).astype(np.uint8)


def _draw(path: Path, rng: np.random.Generator, texture: np.ndarray, boxes: list) -> None:
    y, x = rng.integers(0, 3 * HEIGHT), rng.integers(0, 3 * WIDTH)
    pixels = texture[y : y + HEIGHT, x : x + WIDTH].copy()
    for box in boxes:
        points = np.array(_ellipse(box)).reshape(-1, 1, 2).round().astype(np.int32)
        cv2.fillPoly(pixels, [points], rng.integers(0, 256, 3).tolist())
    cv2.imwrite(str(path), pixels, [cv2.IMWRITE_JPEG_QUALITY, 80])


def _box(rng: np.random.Generator) -> list[float]:
    w, h = np.exp(rng.uniform(np.log(12), np.log(220), 2))
    x, y = rng.uniform(0, WIDTH - w), rng.uniform(0, HEIGHT - h)
    return [round(float(v), 2) for v in (x, y, w, h)]


def _ellipse(box: list[float]) -> list[float]:
    x, y, w, h = box
    points = np.stack([x + w * (0.5 + np.cos(_TURNS) / 2), y + h * (0.5 + np.sin(_TURNS) / 2)], 1)
    return points.ravel().round(2).tolist()


def _area(box: list[float]) -> float:
    return box[2] * box[3]


def _moved(rng: np.random.Generator, box: list[float], share: float) -> list[float]:
    """The box moved by about a share of its sides, inside the image."""
    x, y, w, h = np.array(box) + rng.normal(0, share, 4) * np.tile(box[2:], 2)
    w, h = np.clip((w, h), 4, (WIDTH, HEIGHT))
    x, y = np.clip((x, y), 0, (WIDTH - w, HEIGHT - h))
    return [round(float(v), 2) for v in (x, y, w, h)]


def _detections(
    rng: np.random.Generator,
    image: int,
    boxes: list,
    kinds: list[int],
    *,
    classes: int,
    masks: bool,
) -> list[dict]:
    """20 to 100 detections: most objects, some poorly located or confused, the rest false."""
    found: list[tuple[int, list[float], float]] = []
    for category, box in zip(kinds, boxes, strict=True):
        how = rng.random()
        if how < 0.25:
            continue  # missed
        if how < 0.32:
            category = int(rng.integers(1, classes + 1))
        found.append((category, _moved(rng, box, 0.25 if how > 0.9 else 0.04), rng.beta(6, 2)))
    for _ in range(max(int(rng.integers(20, 101)) - len(found), 0)):
        found.append((int(rng.integers(1, classes + 1)), _box(rng), rng.beta(1.2, 6)))
    return [
        {
            "image_id": image,
            "category_id": category,
            "bbox": box,
            "score": round(float(score), 5),
            **({"segmentation": _rle(box)} if masks else {}),
        }
        for category, box, score in found
    ]


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
