"""A prediction in the formats of tables, of annotations and of other tools.

Shapes: N detections, H, W of the image.
"""

import os
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from detectron2.evaluation.coco_evaluation import instances_to_coco_json
from detectron2.structures import Instances

from resnest_d2.data.convert.written import Annotated, Lost, yolo_labels

from .masks import PackedMasks, outlines

if TYPE_CHECKING:
    from .result import Prediction

COLUMNS = ("file_name", "name", "class_id", "score", "x0", "y0", "x1", "y1", "track_id")


class Outlined(NamedTuple):
    """A detection as an annotation: class, score, box [x0, y0, x1, y1], polygons of its mask.

    The box is the one around the polygons, and within the image.
    """

    name: str
    class_id: int
    score: float
    box: list[float]
    polygons: list[list[float]]


def file_name(prediction: "Prediction") -> str:
    """Path or address as given; ``folder/video.mp4#12`` of a frame; the name without a path."""
    if prediction.frame is None:
        return prediction.path or prediction.name
    return os.path.join(os.path.dirname(prediction.path or ""), prediction.name)


def rows(prediction: "Prediction") -> list[dict[str, Any]]:
    """A row of :data:`COLUMNS` for each detection; boxes in pixels."""
    tracks = prediction.track_ids
    listed = zip(
        prediction.class_names,
        prediction.classes.tolist(),
        prediction.scores.tolist(),
        prediction.boxes.tolist(),
        [None] * len(prediction) if tracks is None else tracks.tolist(),
        strict=True,
    )
    name = file_name(prediction)
    return [
        dict(zip(COLUMNS, (name, *values, *box, _track(track)), strict=True))
        for *values, box, track in listed
    ]


def _track(number: int | None) -> int | None:
    return None if number is None or number < 0 else number


def coco_results(prediction: "Prediction", image_id: int) -> list[dict[str, Any]]:
    """COCO's result records, see :meth:`Prediction.to_coco`."""
    found = Instances(prediction.image_size, **prediction.instances.get_fields())
    if found.has("pred_keypoints"):  # the evaluator shifts them in place
        found.pred_keypoints = found.pred_keypoints.clone()
    packed = found.pred_masks if found.has("pred_masks") else None
    if isinstance(packed, PackedMasks):
        found.remove("pred_masks")
    records = instances_to_coco_json(found, image_id)
    ids = prediction.metadata.get("category_ids")
    tracks = prediction.track_ids
    for i, record in enumerate(records):
        record["category_id"] = ids[record["category_id"]] if ids else record["category_id"]
        if isinstance(packed, PackedMasks):
            rle = packed.rles[i]
            record["segmentation"] = {**rle, "counts": rle["counts"].decode("ascii")}
        if tracks is not None:
            record["track_id"] = _track(int(tracks[i]))
    return records


def json_record(prediction: "Prediction") -> dict[str, Any]:
    """What :meth:`Prediction.to_json` holds, as plain values."""
    height, width = prediction.image_size
    detections = []
    for record, name in zip(coco_results(prediction, 0), prediction.class_names, strict=True):
        del record["image_id"]
        detections.append({"name": name, **record})
    return {
        "file_name": file_name(prediction),
        "frame": prediction.frame,
        "height": height,
        "width": width,
        "detections": detections,
    }


def annotations(prediction: "Prediction") -> list[Outlined]:
    """The detections as objects to annotate; those of no pixel in the image are left out."""
    height, width = prediction.image_size
    boxes = prediction.boxes.astype(float).clip(0, [width, height, width, height])
    masks = prediction.instances.pred_masks if prediction.instances.has("pred_masks") else None
    found = []
    for i, (name, class_id, score) in enumerate(
        zip(prediction.class_names, prediction.classes, prediction.scores, strict=True)
    ):
        mask = None if masks is None else next(iter(masks[i : i + 1]))
        polygons = [] if mask is None else outlines(np.asarray(mask, dtype=bool))
        points = [v for polygon in polygons for v in polygon]
        box = boxes[i].tolist()
        if points:
            box = [min(points[::2]), min(points[1::2]), max(points[::2]), max(points[1::2])]
        if box[2] - box[0] >= 1 and box[3] - box[1] >= 1:
            found.append(Outlined(name, int(class_id), float(score), box, polygons))
    return found


def labelme_file(prediction: "Prediction", image_name: str) -> dict[str, Any]:
    """Contents of labelme's JSON file; parts of one object share a group.

    Args:
        prediction: the prediction.
        image_name: path of the image, relative to the file.
    """
    height, width = prediction.image_size
    shapes: list[dict[str, Any]] = []
    for number, found in enumerate(annotations(prediction)):
        x0, y0, x1, y1 = found.box
        pairs = [
            [polygon[i : i + 2] for i in range(0, len(polygon), 2)] for polygon in found.polygons
        ]
        kind = "polygon" if pairs else "rectangle"
        for points in pairs or [[[x0, y0], [x1, y1]]]:
            shapes.append(
                {
                    "label": found.name,
                    "points": points,
                    "group_id": number if len(pairs) > 1 else None,
                    "description": f"score {found.score:.3f}",
                    "shape_type": kind,
                    "flags": {},
                }
            )
    return {
        "version": "5.5.0",
        "flags": {},
        "shapes": shapes,
        "imagePath": image_name,
        "imageData": None,
        "imageHeight": height,
        "imageWidth": width,
    }


def yolo_text(prediction: "Prediction") -> str:
    """Lines of YOLO: class, box or polygon as shares of the image's sides, and the score."""
    height, width = prediction.image_size
    found = annotations(prediction)
    number = 1 + max((one.class_id for one in found), default=0)
    classes = [str(i) for i in range(number)]
    objects = [(str(one.class_id), one.box, one.polygons) for one in found]
    image = Annotated(prediction.name, width, height, objects)
    lines = yolo_labels(image, classes, Lost()).splitlines()
    return "".join(f"{line} {one.score:.4f}\n" for line, one in zip(lines, found, strict=True))
