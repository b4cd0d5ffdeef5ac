"""What is written of predictions, and that annotations come back as they were predicted."""

import csv
import json

import numpy as np
import pycocotools.mask as mask_util
import pytest
import torch
from detectron2.data.catalog import Metadata
from detectron2.structures import Boxes, Instances
from PIL import Image

from resnest_d2.data.convert import import_data
from resnest_d2.data.validate import check_data
from resnest_d2.inference import PackedMasks, Prediction
from resnest_d2.inference.images import InputImage
from resnest_d2.inference.saving import SAVERS
from resnest_d2.inference.sources import open_source

SIZE = (60, 80)  # height, width
BOXES = [[10, 5, 30, 35], [40, 20, 70, 50], [-3, 50, 9, 64]]
NAMES = ["cat", "dog", "a/b"]


def masks():
    """A rectangle, an object of two parts, and one that the border of the image cuts."""
    found = torch.zeros(3, *SIZE, dtype=torch.bool)
    found[0, 5:35, 10:30] = True
    found[1, 20:50, 40:50] = found[1, 20:50, 60:70] = True
    found[2, 50:60, 0:9] = True
    return found


@pytest.fixture
def predictions(tmp_path):
    """Of a file with masks, of a file in another folder with the same name, and of a frame."""
    pixels = np.random.default_rng(0).integers(0, 256, (*SIZE, 3), np.uint8)
    found = []
    for name in ("one/a.png", "two/a.png"):
        (tmp_path / name).parent.mkdir()
        Image.fromarray(pixels).save(tmp_path / name)
        pixels = pixels[::-1].copy()
        found += list(open_source(tmp_path / name).images)

    def read(order):
        return pixels if order == "RGB" else pixels[:, :, ::-1]

    found.append(InputImage("v.mp4#7", "videos/v.mp4", 7, read, read, 25.0))
    return [prediction(image, i != 1) for i, image in enumerate(found)]


def prediction(image, with_masks):
    found = Instances(SIZE)
    found.pred_boxes = Boxes(torch.tensor(BOXES, dtype=torch.float32))
    found.scores = torch.tensor([0.9, 0.8, 0.7])
    found.pred_classes = torch.tensor([0, 1, 2])
    if with_masks:
        found.pred_masks = masks()
    return Prediction(image, found, Metadata(thing_classes=NAMES, category_ids=[4, 9, 2]))


def write(name, predictions, folder):
    saver = SAVERS[name](folder)
    for number, one in enumerate(predictions, 1):
        saver.add(one, number)
    return saver.close()


def test_json(predictions, tmp_path):
    assert write("json", predictions, tmp_path) == []
    records = json.loads((tmp_path / "predictions.json").read_text())
    assert [r["image_id"] for r in records] == [1] * 3 + [2] * 3 + [3] * 3
    assert [r["category_id"] for r in records[:3]] == [4, 9, 2]
    assert records[0]["bbox"] == [10, 5, 20, 30] and records[0]["file_name"].endswith("one/a.png")
    assert records[8]["file_name"] == "videos/v.mp4#7"


def test_csv(predictions, tmp_path):
    predictions[2].instances.track_ids = torch.tensor([5, -1, 6])
    write("csv", predictions, tmp_path)
    with open(tmp_path / "predictions.csv", newline="") as file:
        table = list(csv.DictReader(file))
    assert len(table) == 9 and table[1]["name"] == "dog" and table[1]["class_id"] == "1"
    assert [float(table[1][key]) for key in ("x0", "y0", "x1", "y1")] == BOXES[1]
    assert float(table[1]["score"]) == pytest.approx(0.8)
    assert [row["track_id"] for row in table[5:]] == ["", "5", "", "6"]


def test_txt(predictions, tmp_path):
    write("txt", predictions, tmp_path)
    names = ["a.txt", "a_2.txt", "v_000007.txt"]
    assert sorted(p.name for p in (tmp_path / "labels").iterdir()) == names
    assert (tmp_path / "classes.txt").read_text() == "cat\ndog\na/b\n"
    lines = (tmp_path / "labels" / "a_2.txt").read_text().splitlines()
    values = [float(v) for v in lines[1].split()]
    assert values == pytest.approx([1, 55 / 80, 35 / 60, 30 / 80, 30 / 60, 0.8], abs=1e-4)
    clipped = [float(v) for v in lines[2].split()]
    assert clipped == pytest.approx([2, 4.5 / 80, 55 / 60, 9 / 80, 10 / 60, 0.7], abs=1e-4)
    first = [float(v) for v in (tmp_path / "labels" / "a.txt").read_text().split("\n")[0].split()]
    corners = {(round(x * 80), round(y * 60)) for x, y in np.reshape(first[1:-1], (-1, 2))}
    assert corners == {(10, 5), (30, 5), (30, 35), (10, 35)} and first[-1] == 0.9


def test_txt_is_imported_again(predictions, tmp_path):
    """The importer skips the scores."""
    write("txt", predictions[1:2], tmp_path)
    (tmp_path / "labels" / "train").mkdir()
    (tmp_path / "labels" / "a.txt").rename(tmp_path / "labels" / "train" / "a.txt")
    (tmp_path / "images" / "train").mkdir(parents=True)
    (tmp_path / "two" / "a.png").rename(tmp_path / "images" / "train" / "a.png")
    (tmp_path / "data.yaml").write_text("train: images/train\nnames: [cat, dog, a/b]\n")
    import_data("yolo", [str(tmp_path / "data.yaml")], output=str(tmp_path / "out.json"))
    data = json.loads((tmp_path / "out.json").read_text())
    assert data["annotations"][1]["bbox"] == pytest.approx([40, 20, 30, 30], abs=0.01)


def test_crops(predictions, tmp_path):
    write("crops", predictions, tmp_path)
    found = {str(p.relative_to(tmp_path / "crops")) for p in (tmp_path / "crops").rglob("*.jpg")}
    names = ("a_1.jpg", "a_1_2.jpg", "v_000007_1.jpg")
    assert {f"cat/{name}" for name in names} < found and len(found) == 9
    assert {p.name for p in (tmp_path / "crops").iterdir()} == {"cat", "dog", "class_2"}
    with Image.open(tmp_path / "crops" / "cat" / "a_1.jpg") as crop:
        part = predictions[0].image.read("RGB")[5:35, 10:30].astype(float)
        assert crop.size == (20, 30) and abs(np.asarray(crop).mean() - part.mean()) < 2
    with Image.open(tmp_path / "crops" / "class_2" / "a_3.jpg") as crop:
        assert crop.size == (9, 10)  # inside of the image


def assert_imported(path, root, *, with_masks):
    """The annotations of COCO JSON are those that were predicted."""
    data = json.loads(path.read_text())
    assert len(data["images"]) == len(with_masks)
    assert len(data["annotations"]) == 3 * len(with_masks)
    names = {category["id"]: category["name"] for category in data["categories"]}
    for image, masked in zip(data["images"], with_masks, strict=True):
        assert (image["height"], image["width"]) == SIZE
        found = [a for a in data["annotations"] if a["image_id"] == image["id"]]
        assert [names[a["category_id"]] for a in found] == NAMES
        boxes = [[10, 5, 20, 30], [40, 20, 30, 30], [0, 50, 9, 10]]
        assert [a["bbox"] for a in found] == boxes
        assert [bool(a.get("segmentation")) for a in found] == [masked] * 3
        for annotation, mask in zip(found, masks().numpy(), strict=True):
            if masked:
                parts = mask_util.frPyObjects(annotation["segmentation"], *SIZE)
                assert np.array_equal(mask_util.decode(mask_util.merge(parts)).astype(bool), mask)
    check = check_data([(str(path), str(root))])
    mixed = len(set(with_masks)) > 1
    assert [f.kind for f in check.findings] == ["masks missing"] * mixed and check.passes()


def test_labelme_is_imported_again(predictions, tmp_path):
    (note,) = write("labelme", predictions, tmp_path)
    folder = tmp_path / "labelme"
    assert note == f"Corrected: resnest-d2 import-data labelme {folder} --output FOLDER"
    names = ["a.json", "a.png", "a_2.json", "a_2.png", "v_000007.jpg", "v_000007.json"]
    assert sorted(p.name for p in folder.iterdir()) == names
    assert (folder / "a_2.png").read_bytes() == (tmp_path / "two" / "a.png").read_bytes()
    shapes = json.loads((folder / "a.json").read_text())["shapes"]
    assert [s["group_id"] for s in shapes] == [None, 1, 1, None]
    assert shapes[0]["shape_type"] == "polygon" and shapes[0]["description"] == "score 0.900"
    done = import_data("labelme", [str(folder)], output=str(tmp_path / "out.json"))
    assert done.files[0].image_root == str(folder)
    assert_imported(tmp_path / "out.json", folder, with_masks=[True, False, True])


def test_no_two_images_differ_by_their_suffix_alone(predictions, tmp_path):
    """labelme and YOLO look for annotations by the image's name without it."""
    for suffix in ("bmp", "webp"):
        Image.new("RGB", SIZE[::-1]).save(tmp_path / f"one/A.{suffix}")
        (image,) = open_source(tmp_path / f"one/A.{suffix}").images
        predictions.append(prediction(image, True))
    write("labelme", predictions, tmp_path)
    write("coco", predictions, tmp_path)
    images = ["A_3.bmp", "A_4.webp", "a.png", "a_2.png", "v_000007.jpg"]
    assert sorted(p.name for p in (tmp_path / "coco" / "images").iterdir()) == images
    written = {p.name: json.loads(p.read_text()) for p in (tmp_path / "labelme").glob("*.json")}
    assert {name: file["imagePath"] for name, file in written.items()} == {
        f"{image.split('.')[0]}.json": image for image in images
    }


def test_coco_is_clean(predictions, tmp_path):
    folder = tmp_path / "coco"
    predictions[2].instances.pred_masks = PackedMasks.place(masks(), (0, 0), SIZE)
    (note,) = write("coco", predictions, tmp_path)
    images = folder / "images"
    assert note == f"Corrected: resnest-d2 check-data {folder / 'annotations.json'} {images}"
    assert sorted(p.name for p in images.iterdir()) == ["a.png", "a_2.png", "v_000007.jpg"]
    data = json.loads((folder / "annotations.json").read_text())
    assert data["categories"] == [
        {"id": id_, "name": name} for id_, name in ((2, "a/b"), (4, "cat"), (9, "dog"))
    ]
    assert data["annotations"][1]["score"] == pytest.approx(0.8)
    assert [a["area"] for a in data["annotations"][:3]] == [600, 600, 90]
    assert_imported(folder / "annotations.json", images, with_masks=[True, False, True])


@pytest.mark.parametrize("chosen", [slice(0, 3, 2), slice(1, 2)])
def test_what_a_detector_finds_is_clean(chosen, predictions, tmp_path):
    write("coco", predictions[chosen], tmp_path)
    write("labelme", predictions[chosen], tmp_path)
    output = tmp_path / "out.json"
    import_data("labelme", [str(tmp_path / "labelme")], output=str(output))
    masked = [True, False, True][chosen]
    assert_imported(output, tmp_path / "labelme", with_masks=masked)
    path = tmp_path / "coco" / "annotations.json"
    assert_imported(path, path.parent / "images", with_masks=masked)


def test_unknown_names_are_numbers(predictions, tmp_path):
    predictions[0].metadata = Metadata()
    write("coco", predictions[:1], tmp_path)
    data = json.loads((tmp_path / "coco" / "annotations.json").read_text())
    assert [(c["id"], c["name"]) for c in data["categories"]] == [(1, "0"), (2, "1"), (3, "2")]
    assert [a["category_id"] for a in data["annotations"]] == [1, 2, 3]
    write("txt", predictions[:1], tmp_path)
    assert not (tmp_path / "classes.txt").exists()


@pytest.mark.parametrize("name", SAVERS)
def test_an_image_without_detections(name, predictions, tmp_path):
    predictions[0].instances = predictions[0].instances[:0]
    out = tmp_path / "out"
    out.mkdir()
    write(name, predictions[:1], out)
    files = sorted(str(p.relative_to(out)) for p in out.rglob("*") if p.is_file())
    assert (
        files
        == {
            "json": ["predictions.json"],
            "csv": ["predictions.csv"],
            "txt": ["classes.txt", "labels/a.txt"],
            "crops": [],
            "labelme": ["labelme/a.json", "labelme/a.png"],
            "coco": ["coco/annotations.json", "coco/images/a.png"],
        }[name]
    )
