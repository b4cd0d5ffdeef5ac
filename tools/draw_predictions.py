#!/usr/bin/env python3
"""Draws annotations (left) and predictions (right) of a detector on its test images.

Usage: tools/draw_predictions.py --config-file output/config.yaml --weights output/model_best.pth
"""

import argparse
import logging
import sys
from functools import partial
from pathlib import Path

import numpy as np
from detectron2.data import DatasetCatalog
from detectron2.data import transforms as T
from detectron2.data.catalog import Metadata
from detectron2.data.detection_utils import (
    annotations_to_instances,
    transform_instance_annotations,
)
from detectron2.engine import DefaultPredictor
from detectron2.structures import Instances
from PIL import Image, ImageDraw

from resnest_d2.config import given_keys, load_config
from resnest_d2.data import register_datasets
from resnest_d2.data.image_files import read_pixels
from resnest_d2.engine import choose_device
from resnest_d2.errors import run_program
from resnest_d2.files import make_folder, whole_file
from resnest_d2.inference.drawing import draw
from resnest_d2.inference.threshold import choose_threshold
from resnest_d2.outputs import free_name, require_empty
from resnest_d2.painting.texts import line_of

SIDE = 800  # pixels of the longer side of a drawn image
GAP, TEXT = 24, 22  # pixels around the images, and of the text above them
GROUND, INK = (255, 255, 255), (40, 40, 40)


def compare(
    pixels: np.ndarray, truth: Instances, found: Instances, metadata: Metadata
) -> Image.Image:
    """Draws an image twice, enlarged or reduced, with annotations and with predictions.

    Args:
        pixels: RGB, uint8 (H, W, 3).
        truth: annotations, with ``gt_boxes`` and so on.
        found: predictions.
        metadata: of the dataset, with the classes' names.
    """
    scale = SIDE / max(pixels.shape[:2])
    sides = [
        ("annotations", draw(pixels, truth, metadata, scale=scale)),
        ("predictions", draw(pixels, found, metadata, scale=scale)),
    ]
    width, height = sides[0][1].size
    top = 2 * TEXT
    page = Image.new("RGB", (2 * width + 3 * GAP, top + height + GAP), GROUND)
    canvas = ImageDraw.Draw(page)
    for number, (title, drawn) in enumerate(sides):
        x = GAP + number * (width + GAP)
        line_of(title, TEXT, longest=width).draw(canvas, x, TEXT // 2, INK)
        page.paste(drawn, (x, top))
    return page


def annotated(record: dict, size: tuple[int, int]) -> Instances:
    """Annotations of an entry of a registered dataset, without crowds.

    Args:
        record: the entry.
        size: height and width of the image.
    """
    unchanged = T.TransformList([T.NoOpTransform()])
    objects = [
        transform_instance_annotations(dict(one), unchanged, size)
        for one in record["annotations"]
        if not one.get("iscrowd")
    ]
    return annotations_to_instances(objects, size, mask_format="bitmask")


def main() -> int:
    """Exit code of the drawing; an error ends in a sentence, its traceback in a log."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--config-file", required=True, help="config of the detector")
    parser.add_argument("--weights", required=True, help="checkpoint of the detector")
    parser.add_argument("--output", default="output/images", help="folder to write to")
    parser.add_argument("--overwrite", action="store_true", help="replace existing files")
    parser.add_argument("--number", type=int, default=8, help="how many images")
    parser.add_argument(
        "--threshold", type=float, help="lowest score drawn; default: the run's, or 0.5"
    )
    parser.add_argument("--debug", action="store_true", help="print the traceback of an error")
    args = parser.parse_args()
    return run_program(partial(draw_all, args), name="draw_predictions.py", debug=args.debug)


def draw_all(args: argparse.Namespace) -> None:
    """Draw the first images of the config's test set into a folder."""
    require_empty(args.output, overwrite=args.overwrite)
    cfg = load_config(args.config_file, ["MODEL.WEIGHTS", args.weights])
    register_datasets(cfg, given=given_keys(args.config_file))
    logging.getLogger("torch.fx._symbolic_trace").setLevel(logging.ERROR)  # of detectron2's doing
    choose_device(cfg)
    predictor = DefaultPredictor(cfg)
    threshold = choose_threshold(args.weights, given=args.threshold).value
    folder, names = Path(args.output), set[str]()
    make_folder(folder)
    records = DatasetCatalog.get(cfg.DATASETS.TEST[0])[: args.number]
    for record in records:
        target = folder / free_name(Path(record["file_name"]).stem, ".png", names)
        image = np.ascontiguousarray(read_pixels(record["file_name"], "BGR"))
        found = predictor(image)["instances"].to("cpu")
        found = found[found.scores >= threshold]
        truth = annotated(record, image.shape[:2])
        drawn = compare(image[:, :, ::-1], truth, found, predictor.metadata)
        with whole_file(target) as file:
            drawn.save(file, "PNG")
    print(f"{len(records)} images in {folder}: annotations left, predictions right.")


if __name__ == "__main__":
    sys.exit(main())
