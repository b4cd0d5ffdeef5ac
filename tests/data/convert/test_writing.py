"""YOLO and Pascal VOC hold the same boxes, and what they cannot hold is counted."""

import json
from collections import Counter
from pathlib import Path
from xml.etree import ElementTree

import cv2
import numpy as np
import pytest
import yaml

from resnest_d2.data.convert import export_data, import_data

CLASSES = [{"id": 9, "name": "dog"}, {"id": 2, "name": "cat & mouse"}]


def write(folder, split="train", *, names=("a.jpg", "sub/b c.jpg", "empty.jpg"), change=None):
    """Boxes at fractions of pixels, polygons, a crowd and RLE on images of 101 x 67 pixels."""
    images = [
        {"id": i, "file_name": name, "width": 101, "height": 67} for i, name in enumerate(names, 1)
    ]
    for i, image in enumerate(images):
        path = folder / "images" / image["file_name"]
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), np.full((67, 101, 3), 40 * i, np.uint8))
    triangle = [[10.5, 5.25, 30.125, 5.25, 30.125, 35.5]]
    boxes = [
        (1, 2, [0, 0, 101, 67], None),
        (1, 9, [3.333, 7.777, 11.111, 13.013], None),
        (2, 9, [10.5, 5.25, 19.625, 30.25], triangle),
        (2, 2, [0.5, 0.5, 100.25, 3.75], [[0.5, 0.5, 100.75, 0.5, 100.75, 4.25, 0.5, 4.25]]),
    ]
    annotations = [
        {"id": i, "image_id": image, "category_id": category, "bbox": box, "area": 9, "iscrowd": 0}
        | ({"segmentation": mask} if mask else {})
        for i, (image, category, box, mask) in enumerate(boxes, 1)
    ]
    data = {"images": images, "annotations": annotations, "categories": CLASSES}
    (change or (lambda data: None))(data)
    (folder / f"{split}.json").write_text(json.dumps(data))
    return str(folder / f"{split}.json"), str(folder / "images")


def objects(json_file):
    """(Image, class, box, polygons) of every object in a COCO file."""
    data = json.loads(Path(json_file).read_text())
    names = {c["id"]: c["name"] for c in data["categories"]}
    files = {i["id"]: i["file_name"] for i in data["images"]}
    return [
        (files[a["image_id"]], names[a["category_id"]], a["bbox"], a.get("segmentation"))
        for a in data["annotations"]
    ]


def test_yolo_and_back(tmp_path):
    pairs = [write(tmp_path), write(tmp_path, "val")]
    done = export_data(pairs, "yolo", output=str(tmp_path / "yolo"))
    assert done == (str(tmp_path / "yolo"), 6, 8, [])
    content = yaml.safe_load((tmp_path / "yolo" / "data.yaml").read_text())
    assert content == {
        "train": "images/train",
        "val": "images/val",
        "names": {0: "cat & mouse", 1: "dog"},
    }
    assert (tmp_path / "yolo" / "labels" / "train" / "empty.txt").read_text() == ""
    back = import_data("yolo", [str(tmp_path / "yolo")], output=str(tmp_path / "coco")).files
    assert [file.split for file in back] == ["train", "val"]
    for (json_file, _), file in zip(pairs, back, strict=True):
        before, after = (
            sorted(objects(json_file), key=str),
            sorted(objects(file.json_file), key=str),
        )
        assert file.images == 3 and len(before) == len(after) == 4
        for old, new in zip(before, after, strict=True):
            assert old[:2] == new[:2]
            assert new[2] == pytest.approx(old[2], abs=2e-3)
            if old[3]:
                assert new[3][0] == pytest.approx(old[3][0], abs=2e-3)


def test_voc_and_back(tmp_path):
    json_file, folder = write(tmp_path)
    done = export_data([(json_file, folder)], "voc", output=str(tmp_path / "voc"))
    assert done.lost == [
        "3 boxes are rounded to whole pixels.",
        "2 masks are left out; their boxes are kept.",
    ]
    root = ElementTree.parse(tmp_path / "voc" / "Annotations" / "a.xml")
    # The whole image: pixels are counted from 1 to 101 and 67.
    corners = [root.findtext(f"object/bndbox/{k}") for k in ("xmin", "ymin", "xmax", "ymax")]
    assert corners == ["1", "1", "101", "67"]
    assert (tmp_path / "voc" / "ImageSets" / "Main" / "train.txt").read_text() == (
        "a\nsub_b c\nempty\n"
    )
    (back,) = import_data("voc", [str(tmp_path / "voc")], output=str(tmp_path / "coco")).files
    before, after = objects(json_file), objects(back.json_file)
    assert back.images == 3 and len(before) == len(after) == 4
    for old, new in zip(before, after, strict=True):
        assert (old[0].replace("/", "_"), old[1]) == new[:2]
        x, y, w, h = old[2]
        left, top, right, bottom = map(round, (x, y, x + w, y + h))
        assert new[2] == [left, top, right - left, bottom - top]


def spoil(data):
    """What YOLO cannot hold, or not as it is."""
    first, second, third, fourth = data["annotations"]
    first["segmentation"] = {"size": [67, 101], "counts": [0, 6767]}
    second |= {"iscrowd": 1, "segmentation": {"size": [67, 101], "counts": [6767]}}
    third["segmentation"] = [[10, 5, 20, 5, 20, 15], [30, 25, 40, 25, 40, 35]]
    third["bbox"] = [10, 5, 30, 30]
    fourth["bbox"] = [0.5, 0.5, 50, 3.75]
    fourth["keypoints"] = [1, 1, 2]
    more = {"category_id": 2, "image_id": 2, "iscrowd": 0, "area": 1}
    data["annotations"] += [
        {**more, "id": 5, "bbox": [90, 60, 20, 20]},
        {**more, "id": 6, "bbox": [10, 10, 0, 5]},
    ]
    data["images"][0]["camera"] = "b"


def test_what_yolo_cannot_hold_is_counted(tmp_path):
    done = export_data([write(tmp_path, change=spoil)], "yolo", output=str(tmp_path / "yolo"))
    assert Counter(done.lost) == Counter(
        [
            "1 crowds are left out.",
            "1 objects with boxes that are empty or outside their image are left out.",
            "1 boxes that reach beyond their image are cut.",
            "1 masks in RLE are left out; their boxes are kept.",
            "1 objects of several polygons are written as one, joined by lines.",
            "1 boxes differ by over a pixel from their polygons, which replace them.",
            "1 boxes without a polygon are written as one, beside polygons in their image.",
            "1 annotations lose the field keypoints.",
            "1 images lose the field camera.",
        ]
    )
    assert done.objects == 4
    lines = (tmp_path / "yolo" / "labels" / "train" / "sub" / "b c.txt").read_text().splitlines()
    joined = [float(v) for v in lines[0].split()[1:]]
    points = (np.reshape(joined, (-1, 2)) * [101, 67]).astype(np.float32)
    # The joined polygon covers the two triangles of 50 pixels each, and nothing else.
    assert cv2.contourArea(points) == pytest.approx(100, abs=1e-2)
    rectangle = [float(v) for v in lines[2].split()[1:]]
    expected = np.array([90, 60, 101, 60, 101, 67, 90, 67]) / ([101, 67] * 4)
    assert rectangle == pytest.approx(expected.tolist())


def test_nothing_is_replaced_or_half_written(tmp_path, monkeypatch):
    pairs, out = [write(tmp_path)], tmp_path / "yolo"
    out.mkdir()
    (out / "mine.txt").write_text("mine")
    with pytest.raises(FileExistsError, match="yolo has files"):
        export_data(pairs, "yolo", output=str(out))
    with pytest.raises(FileExistsError, match="is a file; give a folder"):
        export_data(pairs, "yolo", output=str(out / "mine.txt"))

    def fail(source, target):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("resnest_d2.data.convert.exporting.shutil.copyfile", fail)
        with pytest.raises(OSError, match="yolo2 cannot be written"):
            export_data(pairs, "yolo", output=str(tmp_path / "yolo2"))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["images", "train.json", "yolo"]
    export_data(pairs, "yolo", output=str(out), overwrite=True)
    assert (out / "mine.txt").read_text() == "mine" and (out / "data.yaml").is_file()
    fewer = [write(tmp_path, change=lambda data: data["images"].pop())]
    done = export_data(fewer, "yolo", output=str(out), overwrite=True)
    assert done.lost == [f"1 files of earlier contents are still in {out}/images/train."]


def test_links(tmp_path):
    json_file, folder = write(tmp_path)
    out = tmp_path / "yolo"
    export_data([(json_file, folder)], "yolo", output=str(out), link=True)
    image = out / "images" / "train" / "a.jpg"
    assert image.is_symlink() and image.read_bytes() == Path(folder, "a.jpg").read_bytes()
    # Exported onto itself, the links do not replace the images that they mean.
    pixels = Path(folder, "a.jpg").read_bytes()
    export_data(
        [(json_file, str(out / "images" / "train"))],
        "yolo",
        output=str(out),
        link=True,
        overwrite=True,
    )
    assert image.read_bytes() == pixels


@pytest.mark.parametrize(
    ("names", "format", "message"),
    [
        (("a.jpg", "a.png", "c.jpg"), "yolo", "a.jpg and a.png would both have the labels a"),
        (("x/a.jpg", "x_a.jpg", "c.jpg"), "voc", "x/a.jpg and x_a.jpg would both"),
    ],
)
def test_images_of_the_same_name(names, format, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        export_data([write(tmp_path, names=names)], format, output=str(tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_yolo_of_images_in_a_folder_of_that_name(tmp_path):
    """Readers replace the last "images" of a path by "labels"."""
    names = ("a.jpg", "cam/images/b.jpg", "c.jpg")
    export_data([write(tmp_path, names=names)], "yolo", output=str(tmp_path / "yolo"))
    (back,) = import_data("yolo", [str(tmp_path / "yolo")], output=str(tmp_path / "coco")).files
    found = Counter(name for name, *_ in objects(back.json_file))
    assert found == {"a.jpg": 2, "cam/images_/b.jpg": 2}


def test_files_that_do_not_fit(tmp_path):
    one = write(tmp_path)

    def rename(data):
        data["categories"] = [{"id": 9, "name": "wolf"}, CLASSES[1]]

    other = write(tmp_path, "val", change=rename)
    with pytest.raises(ValueError, match="The classes of .*val.json are not those of .*train.json"):
        export_data([one, other], "yolo", output=str(tmp_path / "out"))
    with pytest.raises(ValueError, match="not one file for each of train, val, test"):
        export_data([one, write(tmp_path, "old_train")], "yolo", output=str(tmp_path / "out"))
    with pytest.raises(ValueError, match="choose from yolo, voc"):
        export_data([one], "labelme", output=str(tmp_path / "out"))
    (tmp_path / "out").mkdir()
    export_data([write(tmp_path, "all")], "yolo", output=str(tmp_path / "out"))
    assert "train: images/train" in (tmp_path / "out" / "data.yaml").read_text()


@pytest.mark.parametrize("format", ["yolo", "voc"])
def test_images_outside_of_their_folder_stay_in_the_output(format, tmp_path):
    folder = tmp_path / "data"
    folder.mkdir()
    names = ("../up.jpg", "sub/../../../far.jpg", f"{tmp_path}/absolute.jpg")
    export_data([write(folder, names=names)], format, output=str(tmp_path / "out" / "deep"))
    images = {p.name for p in (tmp_path / "out" / "deep").rglob("*.jpg")}
    assert images == {"up.jpg", "far.jpg", "absolute.jpg"}
    assert {p.name for p in (tmp_path / "out").iterdir()} == {"deep"}
    before = sorted(p.name for p in tmp_path.iterdir())
    pair = write(folder, "val", names=("../up.jpg", "up.jpg", "empty.jpg"))
    with pytest.raises(ValueError, match=r"up.jpg and up.jpg would both have the labels up"):
        export_data([pair], format, output=str(tmp_path / "other"))
    assert sorted(p.name for p in tmp_path.iterdir()) == before
