"""The same two images in three formats become the same COCO JSON."""

import json

import cv2
import numpy as np
import pytest
from formats import OBJECTS, images, labelme, voc, yolo

from resnest_d2.data import read_coco
from resnest_d2.data.convert import import_data

pytest.importorskip("supervision", reason="the extra supervision is not installed")


@pytest.mark.parametrize("make", [yolo, voc, labelme])
def test_three_formats(make, tmp_path, caplog):
    sources = make(tmp_path / "data")
    written = import_data(make.__name__, list(map(str, sources)), output=str(tmp_path / "coco"))
    assert [w.json_file for w in written] == [f"{tmp_path}/coco/{s}.json" for s in OBJECTS]
    for done, (split, objects) in zip(written, OBJECTS.items(), strict=True):
        with open(done.json_file) as file:
            data = json.load(file)
        assert data["categories"] == [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}]
        names = {image["id"]: image["file_name"] for image in data["images"]}
        assert {(i["width"], i["height"]) for i in data["images"]} == {(100, 50)}
        assert ("empty.png" in names.values()) == (make is yolo)  # an image without labels
        got = [
            (("cat", "dog")[a["category_id"] - 1], a["bbox"], a.get("segmentation", [[]])[0])
            for a in data["annotations"]
        ]
        assert got == [(n, pytest.approx(b), pytest.approx(p)) for n, b, p in objects]
        assert {names[a["image_id"]] for a in data["annotations"]} == {f"{split}.png"}
        areas = [a["area"] for a in data["annotations"]]
        assert areas == ([pytest.approx(300, abs=20), 800] if split == "train" else [64])
        read_coco(done.json_file, done.image_root)
    assert ("skipped point" in caplog.text) == (make is labelme)


def test_labelme_circles_and_groups(tmp_path):
    images(tmp_path / "train", a="a.png")
    corners = [[[0, 0], [4, 0], [4, 4]], [[20, 0], [24, 0], [24, 8]]]
    shapes = [
        {"label": "cat", "points": points, "shape_type": "polygon", "group_id": 1}
        for points in corners
    ]
    shapes.append({"label": "dog", "points": [[50, 20], [60, 20]], "shape_type": "circle"})
    data = {"imagePath": "a.png", "shapes": shapes}  # its size is the image's
    (tmp_path / "train" / "a.json").write_text(json.dumps(data))
    done = import_data("labelme", [str(tmp_path / "train")], output=str(tmp_path / "a.json"))
    data = json.loads((tmp_path / "a.json").read_text())
    cat, dog = data["annotations"]
    assert cat["bbox"] == [0, 0, 24, 8] and len(cat["segmentation"]) == 2
    assert dog["bbox"] == pytest.approx([40, 10, 20, 20]) and cat["iscrowd"] == 0
    assert dog["area"] == pytest.approx(np.pi * 100, rel=0.03)
    assert (done[0].images, done[0].objects, data["images"][0]["width"]) == (1, 2, 100)


def test_categories_of_another_file(tmp_path):
    train, val = map(str, labelme(tmp_path / "data"))
    (tmp_path / "ids.json").write_text('{"categories": [{"id": 7, "name": "cat"}]}')
    ids = str(tmp_path / "ids.json")
    done = import_data("labelme", [val], output=str(tmp_path / "val.json"), categories=ids)
    data = json.loads((tmp_path / "val.json").read_text())
    assert data["annotations"][0]["category_id"] == 7 and done[0].objects == 1
    with pytest.raises(ValueError, match=r"Classes \['dog'\] are not among .*\['cat'\]"):
        import_data("labelme", [train], output=str(tmp_path / "x.json"), categories=ids)
    (tmp_path / "ids.json").write_text('{"categories": [{"id": 7}]}')
    with pytest.raises(ValueError, match="ids.json has no list of categories with ids and names"):
        import_data("labelme", [train], output=str(tmp_path / "x.json"), categories=ids)


def test_mistakes(tmp_path, monkeypatch):
    source = str(yolo(tmp_path / "data")[0])
    out = str(tmp_path / "out.json")
    with pytest.raises(ValueError, match="one file for the 2 splits train, val"):
        import_data("yolo", [source], output=out)
    with pytest.raises(ValueError, match="choose from yolo, voc, labelme"):
        import_data("coco", [source], output=out)
    with pytest.raises(FileNotFoundError, match="no nowhere"):
        import_data("yolo", ["nowhere"], output=out)
    (tmp_path / "train.json").write_text("{}")
    with pytest.raises(FileExistsError, match="train.json exists"):
        import_data("yolo", [source], output=str(tmp_path))
    for line, message in (
        ("5 .5 .5 .1 .1", "class 5 is not among"),
        ("0 1 2", "at least 5 tokens"),
    ):
        (tmp_path / "data" / "labels" / "val" / "val.txt").write_text(line)
        with pytest.raises(ValueError, match=f"val.txt: .*{message}"):
            import_data("yolo", [source], output=str(tmp_path / "coco"))
    with pytest.raises(ValueError, match="no XML files"):
        import_data("voc", [str(tmp_path)], output=out)
    with pytest.raises(ValueError, match="train.json is not of labelme"):
        import_data("labelme", [str(tmp_path)], output=out)
    circle = {"label": "cat", "points": [[1, 1]], "shape_type": "circle"}
    (tmp_path / "train.json").write_text(json.dumps({"imagePath": "a.png", "shapes": [circle]}))
    with pytest.raises(ValueError, match="train.json is not of labelme: .* a circle, has 1 points"):
        import_data("labelme", [str(tmp_path)], output=out)
    monkeypatch.setattr("resnest_d2.data.convert.importing.find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r"resnest-d2\[supervision\]"):
        import_data("yolo", [source], output=out)


def test_command(tmp_path):
    import typer
    from typer.testing import CliRunner

    from resnest_d2.cli.import_data import import_data as command

    app = typer.Typer()
    app.command()(command)
    (source,) = voc(tmp_path / "data")
    for split in ("train", "val"):
        value = np.full((50, 100, 3), len(split), np.uint8)
        cv2.imwrite(str(source / "JPEGImages" / f"{split}.png"), value)
    result = CliRunner().invoke(app, ["voc", str(source), "--output", str(tmp_path / "coco")])
    assert result.exit_code == 0, result.output
    assert "train.json: 1 images, 2 objects" in result.output
    assert "0 errors, 0 warnings" in result.output
    assert f"--val {tmp_path}/coco/val.json --val-images {source}/JPEGImages" in result.output
