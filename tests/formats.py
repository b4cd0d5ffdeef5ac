"""The same two images in YOLO, Pascal VOC and labelme, and small sets in other formats."""

import json

import cv2
import numpy as np

# Class, box [x, y, width, height] and polygon of the objects in each image of 100 x 50 pixels.
OBJECTS = {
    "train": [("dog", [10, 5, 20, 30], [10, 5, 30, 5, 30, 35]), ("cat", [50, 10, 40, 20], [])],
    "val": [("cat", [0, 0, 8, 8], [])],
}


def images(folder, **names):
    folder.mkdir(parents=True)
    for number, name in names.items():
        value = 50 if number == "a" else 150
        assert cv2.imwrite(str(folder / name), np.full((50, 100, 3), value, np.uint8))


def yolo(root):
    for split, objects in OBJECTS.items():
        images(root / "images" / split, a=f"{split}.png", b="empty.png")
        lines = []
        for name, (x, y, w, h), polygon in objects:
            scaled = [(x + w / 2) / 100, (y + h / 2) / 50, w / 100, h / 50]
            scaled = [v / (50 if i % 2 else 100) for i, v in enumerate(polygon)] or scaled
            lines.append(" ".join(map(str, [("cat", "dog").index(name), *scaled])))
        (root / "labels" / split).mkdir(parents=True)
        (root / "labels" / split / f"{split}.txt").write_text("\n".join(lines) + "\n")
    names = "names: {0: cat, 1: dog}"
    (root / "data.yaml").write_text(f"train: images/train\nval: images/val\n{names}\n")
    return [root / "data.yaml"]


def voc(root):
    images(root / "JPEGImages", a="train.png", b="val.png")
    (root / "Annotations").mkdir()
    (root / "ImageSets" / "Main").mkdir(parents=True)
    for split, objects in OBJECTS.items():
        text = ""
        for name, (x, y, w, h), polygon in objects:
            # Pixels are counted from 1 there, and the last one belongs to the box.
            box = {"xmin": x + 1, "ymin": y + 1, "xmax": x + w, "ymax": y + h}
            text += f"<object><name>{name}</name><bndbox>"
            text += "".join(f"<{k}>{v}</{k}>" for k, v in box.items()) + "</bndbox>"
            points = [(f"{'yx'[i % 2]}{i // 2}", v + 1) for i, v in enumerate(polygon, 1)]
            text += "<polygon>" * bool(points)
            text += "".join(f"<{k}>{v}</{k}>" for k, v in points) + "</polygon>" * bool(points)
            text += "</object>"
        size = "<size><width>100</width><height>50</height></size>"
        (root / "Annotations" / f"{split}.xml").write_text(
            f"<annotation><filename>{split}.png</filename>{size}{text}</annotation>"
        )
        (root / "ImageSets" / "Main" / f"{split}.txt").write_text(f"{split}\n")
    return [root]


def labelme(root):
    for split, objects in OBJECTS.items():
        images(root / split, a=f"{split}.png")
        shapes = []
        for name, (x, y, w, h), polygon in objects:
            points = [polygon[i : i + 2] for i in range(0, len(polygon), 2)]
            kind = "polygon" if points else "rectangle"
            points = points or [[x + w, y + h], [x, y]]
            shapes.append({"label": name, "points": points, "shape_type": kind, "group_id": None})
        shapes.append({"label": "nose", "points": [[1, 1]], "shape_type": "point"})
        data = {"imagePath": f"{split}.png", "imageWidth": 100, "imageHeight": 50, "shapes": shapes}
        (root / split / f"{split}.json").write_text(json.dumps(data))
    return [root / "train", root / "val"]


def varied_labelme(folder, number):
    """Images of noise with one cat each, every second also with a dog."""
    folder.mkdir(parents=True)
    for i in range(number):
        noise(folder / f"{i}.png", i)
        shapes = [
            {"label": label, "points": [[5, 5], [40, 30]], "shape_type": "rectangle"}
            for label in ("cat", "dog")[: 2 - i % 2]
        ]
        data = {"imagePath": f"{i}.png", "imageWidth": 80, "imageHeight": 60, "shapes": shapes}
        (folder / f"{i}.json").write_text(json.dumps(data))
    return str(folder)


WITH_SPLITS = (yolo, voc, labelme)


def noise(path, seed):
    """Writes an image of 80 x 60 pixels that is like no other."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 255, (6, 8, 3), np.uint8)
    cv2.imwrite(str(path), cv2.resize(pixels, (80, 60), interpolation=cv2.INTER_CUBIC))


def cvat(root):
    text = ""
    for i in range(5):
        noise(root / "images" / f"{i}.png", i)
        box = '<box label="cat" xtl="10" ytl="10" xbr="40" ybr="30"/>'
        text += f'<image id="{i}" name="{i}.png" width="80" height="60">{box}</image>'
    (root / "annotations.xml").write_text(f"<annotations>{text}</annotations>")
    return [root]


def labelstudio(root):
    tasks = []
    for i in range(5):
        noise(root / "images" / f"{i}.png", i)
        value = {"x": 10, "y": 10, "width": 50, "height": 40, "rectanglelabels": ["cat"]}
        result = [{"type": "rectanglelabels", "value": value}]
        data = {"image": f"/data/upload/1/0123abcd-{i}.png"}
        tasks.append({"id": i, "data": data, "annotations": [{"result": result}]})
    (root / "export.json").write_text(json.dumps(tasks))
    return [root / "export.json"]


def roboflow(root):
    for number, split in enumerate(("train", "valid")):
        noise(root / split / "a.png", number)
        box = {"id": 0, "image_id": 0, "category_id": 1, "bbox": [5, 5, 20, 30], "area": 600}
        data = {
            "images": [{"id": 0, "file_name": "a.png", "width": 80, "height": 60}],
            "categories": [
                {"id": 0, "name": "pets", "supercategory": "none"},
                {"id": 1, "name": "cat", "supercategory": "pets"},
            ],
            "annotations": [{**box, "iscrowd": 0, "segmentation": []}],
        }
        (root / split / "_annotations.coco.json").write_text(json.dumps(data))
    return [root]
