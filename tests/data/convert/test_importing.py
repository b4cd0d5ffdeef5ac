"""The same two images in three formats become the same COCO JSON."""

import json

import numpy as np
import pytest
from formats import OBJECTS, images, labelme, varied_labelme, voc, yolo

from resnest_d2.data import read_coco
from resnest_d2.data.convert import Plan, import_data


@pytest.mark.parametrize("make", [yolo, voc, labelme])
def test_three_formats(make, tmp_path, caplog):
    sources = make(tmp_path / "data")
    done = import_data(make.__name__, list(map(str, sources)), output=str(tmp_path / "coco"))
    written = done.files
    # Named after the folder of the source, not after that of the output.
    assert [w.json_file for w in written] == [f"{tmp_path}/coco/data_{s}.json" for s in OBJECTS]
    assert [w.split for w in written] == ["train", "val"]
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
    assert (done.files[0].images, done.files[0].objects, data["images"][0]["width"]) == (1, 2, 100)


def test_categories_of_another_file(tmp_path):
    train, val = map(str, labelme(tmp_path / "data"))
    (tmp_path / "ids.json").write_text('{"categories": [{"id": 7, "name": "cat"}]}')
    ids = str(tmp_path / "ids.json")
    done = import_data("labelme", [val], output=str(tmp_path / "val.json"), categories=ids)
    data = json.loads((tmp_path / "val.json").read_text())
    assert data["annotations"][0]["category_id"] == 7 and done.files[0].objects == 1
    with pytest.raises(ValueError, match=r"Classes \['dog'\] are not among .*\['cat'\]"):
        import_data("labelme", [train], output=str(tmp_path / "x.json"), categories=ids)
    (tmp_path / "ids.json").write_text('{"categories": [{"id": 7}]}')
    with pytest.raises(ValueError, match="ids.json has no list of categories with ids and names"):
        import_data("labelme", [train], output=str(tmp_path / "x.json"), categories=ids)


def test_mistakes(tmp_path):
    source = str(yolo(tmp_path / "data")[0])
    out = str(tmp_path / "out.json")
    with pytest.raises(ValueError, match="one file for the 2 splits data_train, data_val"):
        import_data("yolo", [source], output=out)
    with pytest.raises(ValueError, match="choose from yolo, voc, labelme, cvat"):
        import_data("coco", [source], output=out)
    with pytest.raises(FileNotFoundError, match="no nowhere"):
        import_data("yolo", ["nowhere"], output=out)
    (tmp_path / "data_train.json").write_text("{}")
    with pytest.raises(FileExistsError, match="data_train.json exists"):
        import_data("yolo", [source], output=str(tmp_path))
    for line, message in (
        ("5 .5 .5 .1 .1", "class 5 is not among"),
        ("0 1 2", "at least 5 tokens"),
    ):
        (tmp_path / "data" / "labels" / "val" / "val.txt").write_text(line)
        with pytest.raises(ValueError, match=f"val.txt, line 1: {message}"):
            import_data("yolo", [source], output=str(tmp_path / "coco"))
    (tmp_path / "other").mkdir()
    other = tmp_path / "other" / "a.json"
    with pytest.raises(ValueError, match="no XML files"):
        import_data("voc", [str(other.parent)], output=out)
    other.write_text("{}")
    with pytest.raises(ValueError, match="a.json: it is not of labelme"):
        import_data("labelme", [str(other.parent)], output=out)
    circle = {"label": "cat", "points": [[1, 1]], "shape_type": "circle"}
    other.write_text(json.dumps({"imagePath": "a.png", "shapes": [circle]}))
    with pytest.raises(ValueError, match="a.json: it is not of labelme: .* a circle, has 1 points"):
        import_data("labelme", [str(other.parent)], output=out)
    assert not (tmp_path / "out.json").exists() and not (tmp_path / "coco").exists()


def test_a_hundred_equal_faults_are_one_line(tmp_path):
    source = str(yolo(tmp_path / "data")[0])
    labels = tmp_path / "data" / "labels" / "train"
    (labels / "train.txt").write_text("7 .5 .5 .1 .1\n" * 100 + "0 1 2\n")
    with pytest.raises(ValueError) as raised:
        import_data("yolo", [source], output=str(tmp_path / "coco"))
    first, equal, other = str(raised.value).splitlines()
    assert first == "The annotations are faulty:"
    assert equal == (
        f"  {labels}/train.txt, line 1: class 7 is not among the names [0, 1]; 99 more like it, in "
        f"{labels}/train.txt, line 2, {labels}/train.txt, line 3, {labels}/train.txt, line 4 ..."
    )
    assert other.startswith(f"  {labels}/train.txt, line 101: at least 5 tokens")


def test_names_of_yolo_that_are_used_twice(tmp_path):
    (source,) = yolo(tmp_path / "data")
    source.write_text("train: images/train\nnames: {0: cat, 1: dog, 4: cat}\n")
    with pytest.raises(ValueError, match="the classes 0, 4 are all named 'cat'"):
        import_data("yolo", [str(source)], output=str(tmp_path / "coco"))


def test_yolo_of_roboflow(tmp_path):
    """Folders train, valid and test beside data.yaml, which gives their paths from another one."""
    for split in ("train", "valid", "test"):
        images(tmp_path / "cells" / split / "images", a=f"{split}.png")
        (tmp_path / "cells" / split / "labels").mkdir()
        (tmp_path / "cells" / split / "labels" / f"{split}.txt").write_text("0 0.5 0.5 0.2 0.4")
    paths = "train: ../train/images\nval: ../valid/images\ntest: ../test/images\n"
    (tmp_path / "cells" / "data.yaml").write_text(f"{paths}nc: 1\nnames: ['cell']\n")
    done = import_data("yolo", [str(tmp_path / "cells")], output=str(tmp_path / "coco"))
    names = [file.json_file.rpartition("/")[2] for file in done.files]
    assert names == ["cells_train.json", "cells_val.json", "cells_test.json"]
    for file in done.files:
        with open(file.json_file) as opened:
            assert json.load(opened)["annotations"][0]["bbox"] == [40, 15, 20, 20]
        read_coco(file.json_file, file.image_root)


def test_labelme_takes_a_shape_without_a_type_for_a_polygon(tmp_path):
    images(tmp_path / "train", a="a.png")
    shape = {"label": "cat", "points": [[2, 3], [12, 3], [12, 23]]}
    data = {"imagePath": "a.png", "shapes": [shape, {**shape, "shape_type": None}]}
    (tmp_path / "train" / "a.json").write_text(json.dumps(data))
    import_data("labelme", [str(tmp_path / "train")], output=str(tmp_path / "a.json"))
    annotations = json.loads((tmp_path / "a.json").read_text())["annotations"]
    assert [a["bbox"] for a in annotations] == [[2, 3, 10, 20]] * 2
    assert annotations[0]["segmentation"] == [[2, 3, 12, 3, 12, 23]]


def test_voc_reads_names_with_spaces(tmp_path):
    (source,) = voc(tmp_path / "data")
    (source / "Annotations" / "val.xml").rename(source / "Annotations" / "my val.xml")
    (source / "ImageSets" / "Main" / "val.txt").write_text("my val\n")
    done = import_data("voc", [str(source)], output=str(tmp_path / "coco"))
    assert [file.objects for file in done.files] == [2, 1]


def test_a_source_without_splits_is_split(tmp_path):
    pytest.importorskip("imagehash", reason="the extra split is not installed")
    source = varied_labelme(tmp_path / "pets", 20)
    done = import_data("labelme", [source], output=str(tmp_path), plan=Plan(val=0.2))
    train, val = done.files
    assert (train.json_file, val.json_file) == (
        f"{tmp_path}/pets_train.json",
        f"{tmp_path}/pets_val.json",
    )
    assert (train.images, val.images, train.objects, val.objects) == (16, 4, 24, 6)
    assert done.table.splitlines()[2].split() == "cat 20 66.7 16 66.7 4 66.7".split()
    with pytest.raises(FileExistsError, match="pets_train.json exists"):
        import_data("labelme", [source], output=str(tmp_path), plan=Plan(val=0.5))
    source = varied_labelme(tmp_path / "dogs" / "train", 10)
    done = import_data("labelme", [source], output=str(tmp_path), plan=Plan(val=0.2))
    assert [(f.split, f.images) for f in done.files] == [("train", 8), ("val", 2)]
    assert done.files[1].json_file == f"{tmp_path}/dogs_val.json"
    with pytest.raises(ValueError, match="there are data_train, data_val. Import them without"):
        import_data(
            "yolo", list(map(str, yolo(tmp_path / "data"))), output=str(tmp_path), plan=Plan()
        )


def test_a_source_is_never_replaced(tmp_path):
    images(tmp_path / "mine", a="a.png")
    data = {"imagePath": "a.png", "shapes": []}
    (tmp_path / "mine" / "a.json").write_text(json.dumps(data))
    for target in (tmp_path / "mine" / "a.json", tmp_path / "mine" / "." / "a.json"):
        with pytest.raises(ValueError, match="a.json is .*an input, which is never changed"):
            import_data("labelme", [str(tmp_path / "mine")], output=str(target), overwrite=True)
    assert json.loads((tmp_path / "mine" / "a.json").read_text()) == data
    (tmp_path / "classes.json").write_text(json.dumps({"categories": [{"id": 1, "name": "cat"}]}))
    target = str(tmp_path / "classes.json")
    with pytest.raises(ValueError, match="classes.json is an input"):
        import_data(
            "labelme", [str(tmp_path / "mine")], output=target, categories=target, overwrite=True
        )


def test_images_outside_of_the_folder_are_told_once(tmp_path, caplog):
    images(tmp_path / "mine", b="b.png")
    images(tmp_path / "other", a="a.png")
    for i, name in enumerate(("../other/a.png", "../mine/b.png", "../mine/../other/a.png")):
        data = {"imagePath": name, "shapes": []}
        (tmp_path / "mine" / f"{i}.json").write_text(json.dumps(data))
    import_data("labelme", [str(tmp_path / "mine")], output=str(tmp_path / "out.json"))
    told = [r.message for r in caplog.records if "are outside of" in r.message]
    where = f"the folder {tmp_path / 'mine'}, such as ../other/a.png."
    assert told == [f"mine: 2 images are outside of {where}"]
