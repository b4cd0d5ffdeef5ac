#!/usr/bin/env python3
"""Runs an exported detector with only onnxruntime: tools/run_onnx.py model.onnx image.jpg."""

import json
import sys

import numpy as np
import onnxruntime
from PIL import Image, ImageOps

onnxruntime.set_default_logger_severity(3)  # errors only
session = onnxruntime.InferenceSession(sys.argv[1], providers=["CPUExecutionProvider"])
about = session.get_modelmeta().custom_metadata_map
names = json.loads(about["class_names"])
if about["preprocess"] == "outside":
    sys.exit(f"{sys.argv[1]} takes resized images; export it with --preprocess inside.")
image = ImageOps.exif_transpose(Image.open(sys.argv[2])).convert("RGB")
image = np.array(image)  # (H, W, 3), uint8
if about["input_format"] == "BGR":
    image = np.ascontiguousarray(image[:, :, ::-1])
batch = about.get("batch") == "true"  # of this image alone
found = session.run(None, {"image": image[None] if batch else image})
boxes, scores, classes, *masks = found[:-1] if batch else found
for i, label in enumerate(classes):
    filled = f"{(masks[0][i] > 0.5).mean():.0%}" if masks else ""  # of the box
    print(names[label] if names else label, f"{scores[i]:.3f}", *boxes[i].round(1), filled)
