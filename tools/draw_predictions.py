#!/usr/bin/env python3
"""Draws annotations (left) and predictions (right) of a detector on its test images.

Usage: tools/draw_predictions.py --config-file output/config.yaml --weights output/model_best.pth
"""

import argparse
import sys
from functools import partial
from pathlib import Path

import numpy as np
from detectron2.data import DatasetCatalog
from detectron2.engine import DefaultPredictor
from detectron2.utils.visualizer import ColorMode, Visualizer
from PIL import Image

from resnest_d2.config import given_keys, load_config
from resnest_d2.data import register_datasets
from resnest_d2.data.image_files import read_pixels
from resnest_d2.engine import choose_device
from resnest_d2.errors import run_program
from resnest_d2.files import make_folder, whole_file
from resnest_d2.inference.drawing import plain_names
from resnest_d2.outputs import free_name, require_empty

SCALE = 2.0  # of the drawing, to make labels on small images legible


def draw(predictor: DefaultPredictor, record: dict, *, threshold: float) -> np.ndarray:
    """Draws an image twice, with its annotations and with the predictions.

    Args:
        predictor: detectron2's predictor.
        record: entry of a registered dataset.
        threshold: lowest score that is drawn.

    Returns:
        RGB, uint8, twice as wide as the image.

    Raises:
        UserError: the image cannot be read.
    """
    image = np.ascontiguousarray(read_pixels(record["file_name"], "BGR"))
    found = predictor(image)["instances"].to("cpu")
    found = found[found.scores >= threshold]
    sides = []
    for paint in (
        lambda canvas: canvas.draw_dataset_dict(record),
        lambda canvas: canvas.draw_instance_predictions(found),
    ):
        canvas = Visualizer(
            image[:, :, ::-1], predictor.metadata, SCALE, instance_mode=ColorMode.IMAGE
        )
        with plain_names():
            sides.append(paint(canvas).get_image())
    return np.hstack(sides)


def main() -> int:
    """Exit code of the drawing; an error ends in a sentence, its traceback in a log."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--config-file", required=True, help="config of the detector")
    parser.add_argument("--weights", required=True, help="checkpoint of the detector")
    parser.add_argument("--output", default="output/images", help="folder to write to")
    parser.add_argument("--overwrite", action="store_true", help="replace existing files")
    parser.add_argument("--number", type=int, default=12, help="how many images")
    parser.add_argument("--threshold", type=float, default=0.5, help="lowest score drawn")
    parser.add_argument("--debug", action="store_true", help="print the traceback of an error")
    args = parser.parse_args()
    return run_program(partial(draw_all, args), name="draw_predictions.py", debug=args.debug)


def draw_all(args: argparse.Namespace) -> None:
    """Draw the first images of the config's test set into a folder."""
    require_empty(args.output, overwrite=args.overwrite)
    cfg = load_config(args.config_file, ["MODEL.WEIGHTS", args.weights])
    register_datasets(cfg, given=given_keys(args.config_file))
    choose_device(cfg)
    predictor = DefaultPredictor(cfg)
    folder, names = Path(args.output), set[str]()
    make_folder(folder)
    records = DatasetCatalog.get(cfg.DATASETS.TEST[0])[: args.number]
    for record in records:
        target = folder / free_name(Path(record["file_name"]).stem, ".png", names)
        drawn = Image.fromarray(draw(predictor, record, threshold=args.threshold))
        with whole_file(target) as file:
            drawn.save(file, "PNG")
    print(f"{len(records)} images in {folder}: truth left, prediction right.")


if __name__ == "__main__":
    sys.exit(main())
