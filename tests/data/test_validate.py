"""A data set with planted faults of every kind: all are named, nothing else is, and all mended."""

import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pycocotools.mask as mask_util
import pytest
from PIL import Image

from resnest_d2.cli.check_data import check_data as command
from resnest_d2.data import read_coco
from resnest_d2.data.validate import Anchors, check_data, fix_data, pair_paths
from resnest_d2.data.validate.check import rows_of
from resnest_d2.data.validate.findings import KINDS, Finding
from resnest_d2.data.validate.statistics import anchor_overlaps

# Of train.json: id -> kind of its fault, and the change that plants it.
ANNOTATION_FAULTS = {
    1: ("not a box", {"bbox": [1, 2, 3]}),
    2: ("not a box", {"bbox": [1, 2, 3, None]}),
    3: ("unusable box", {"bbox": [5, 5, 0, 0]}),
    4: ("negative box", {"bbox": [20, 20, -5, -5]}),
    5: ("unusable box", {"bbox": [70, 5, 10, 10]}),
    6: ("box beyond image", {"bbox": [50, 5, 20, 10]}),
    7: ("unknown image", {"image_id": 999}),
    8: ("unknown category", {"category_id": 99}),
    9: ("polygon", {"segmentation": [[1, 1, 5, 5]]}),
    10: ("polygon", {"segmentation": [[1, 1, 9, 1, 9, 9, 4], [1, 1, 9, 1, 9, 9]]}),
    11: ("not a mask", {"segmentation": {"size": [30, 60], "counts": [1800]}}),
    12: ("not a mask", {"segmentation": {"size": [40, 60], "counts": [100]}}),
    13: ("not a mask", {"segmentation": [1, 1, 9, 1, 9, 9]}),
    14: ("area", {"area": 0}),
    15: ("area", {"area": None}),
    16: ("iscrowd", {"iscrowd": None}),
    17: ("ignored", {"ignore": 1}),
    18: ("field", {"category_id": None}),
}
IMAGE_FAULTS = {
    21: "missing image",
    22: "unreadable image",
    23: "truncated image",
    24: "image size",
    25: "EXIF orientation",
    26: "field",
    27: "listed twice",
    28: "in two sets",
}


def pixels(number):
    return np.random.default_rng(number).integers(0, 256, (40, 60, 3), np.uint8)


def entry(number, image):
    mask = [[10, 5, 30, 5, 30, 35, 10, 35]]
    given = {"bbox": [10, 5, 20, 30], "segmentation": mask, "area": 600, "iscrowd": 0}
    return {"id": number, "image_id": image, "category_id": 1 + number % 2, **given}


def image(number):
    return {"id": number, "file_name": f"{number}.png", "height": 40, "width": 60}


CATEGORIES = [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}]


@pytest.fixture
def sound(tmp_path):
    """A function that writes a sound data set of some images, with an object each."""
    (tmp_path / "images").mkdir()

    def write(name, numbers, change=lambda data: None):
        for number in numbers:
            cv2.imwrite(str(tmp_path / "images" / f"{number}.png"), pixels(number))
        data = {
            "images": [image(number) for number in numbers],
            "annotations": [entry(number, number) for number in numbers],
            "categories": [dict(c) for c in CATEGORIES],
        }
        change(data)
        (tmp_path / name).write_text(json.dumps(data))
        return str(tmp_path / name), str(tmp_path / "images")

    return write


def plant(data):
    for annotation in data["annotations"]:
        annotation.update(ANNOTATION_FAULTS.get(annotation["id"], ("", {}))[1])
    by_id = {entry["id"]: entry for entry in data["images"]}
    del data["annotations"][18]["iscrowd"]  # of id 19
    by_id[21]["file_name"] = "gone.png"
    by_id[22]["file_name"] = "text.png"
    by_id[23]["file_name"] = "cut.jpg"
    by_id[24]["height"] = 41
    by_id[25]["file_name"] = "turned.jpg"
    by_id[26]["width"] = "60"
    by_id[27]["file_name"] = "20.png"
    data["annotations"].append(entry(20, 19))  # another of its id
    data["images"].append(image(18) | {"file_name": "19.png"})
    data["categories"] += [{"id": 3, "name": "bird"}, {"id": 4, "name": "cat"}]


@pytest.fixture
def planted(sound, tmp_path):
    """Paths of a data set with thirty-three faults, and the pairs of kind and entry expected."""
    train = sound("train.json", range(1, 29), plant)
    val = sound("val.json", [28, 40])
    data = json.loads((tmp_path / "val.json").read_text())
    data["categories"] += [{"id": 3, "name": "bird"}, {"id": 4, "name": "cat"}]
    (tmp_path / "val.json").write_text(json.dumps(data))
    (tmp_path / "broken.json").write_text("{")
    images = tmp_path / "images"
    (images / "text.png").write_text("no image")
    Image.fromarray(pixels(23)).save(images / "whole.jpg")
    (images / "cut.jpg").write_bytes((images / "whole.jpg").read_bytes()[:-400])
    exif = Image.Exif()
    exif[274] = 6
    Image.fromarray(pixels(25)).save(images / "turned.jpg", exif=exif)
    expected = [(kind, f"annotation id {i}") for i, (kind, _) in ANNOTATION_FAULTS.items()]
    expected += [(kind, f"image id {i}") for i, kind in IMAGE_FAULTS.items()]
    expected.remove(("field", "annotation id 18"))
    expected.remove(("field", "image id 26"))
    expected += [("field", "annotation number 17 (id 18)"), ("field", "image number 25 (id 26)")]
    expected += [("no iscrowd", "annotation id 19")]
    expected += [("id twice", "annotation id 20"), ("id twice", "image id 18")]
    expected += [("unused category", "category id 3"), ("name twice", "category id 4")] * 2
    expected += [("file", "")]
    return [*train, val[0], str(tmp_path / "broken.json")], expected


def faults(check):
    return [(f.kind, f.entry) for f in check.findings if f.severity != "note"]


def test_all_planted_faults_and_nothing_else(planted):
    paths, expected = planted
    check = check_data(pair_paths(paths), progress=False)
    assert sorted(faults(check)) == sorted(expected) and len(expected) >= 30
    severities = {f.severity for f in check.findings}
    assert severities >= {"error", "warning"} and not check.passes()
    assert (
        not {kind for kind, (s, _) in KINDS.items() if s != "note"}
        - {kind for kind, _ in expected}
        - {"categories differ"}
        - {
            "keypoints",
            "normalised boxes",
            "corners",
            "empty mask",
            "pixels",
            "many objects",
        }  # test_written.py
    )
    text = check.table()
    assert "its bbox [70, 5, 10, 10] is outside its image of 60 x 40" in text
    assert "turned.jpg has 40 x 60 pixels after rotation by its EXIF orientation 6" in text
    assert "28.png has the same pixels as 28.png, image id 28 in" in text


def test_the_clean_copy_passes_and_inputs_stay(planted, tmp_path):
    paths, _ = planted
    pairs = pair_paths(paths[:3])
    before = [Path(path).read_text() for path, _ in pairs]
    outputs = [str(tmp_path / "a.json"), str(tmp_path / "b.json")]
    check = check_data(pairs, progress=False)
    repairs = fix_data(check, outputs)
    done = {r.finding.entry: r.done for r in repairs if r.finding.file == paths[0]}
    assert done["annotation id 6"] == "clipped to [50, 5, 10, 10]"
    assert done["annotation id 10"] == "polygon dropped"
    assert (
        done["annotation id 9"].startswith("mask dropped, box kept")
        and done["annotation id 14"] == "set to 600"
    )
    assert done["annotation id 4"] == "dropped"
    assert done["annotation id 16"] == done["annotation id 19"] == "set to 0"
    assert done["category id 4"] == "its annotations moved to id 1"
    assert done["image id 27"] == "its annotations moved to id 20"
    again = check_data([(path, paths[1]) for path in outputs], progress=False)
    assert again.passes(strict=True), again.table()
    clean = json.loads((tmp_path / "a.json").read_text())
    ids = {entry["id"] for entry in clean["images"]}
    assert ids == {*range(1, 18), 19, 20} | ({18} & ids)
    assert [c["id"] for c in clean["categories"]] == [1, 2]
    owner = {a["id"]: a["image_id"] for a in clean["annotations"]}
    assert owner[27] == 20 and {3, 4, 5, 28}.isdisjoint(owner)
    assert [Path(path).read_text() for path, _ in pairs] == before
    with pytest.raises(FileExistsError, match="a.json exists"):
        fix_data(check, outputs)
    with pytest.raises(ValueError, match="is an input"):
        fix_data(check, [paths[0], outputs[1]], overwrite=True)
    with pytest.raises(ValueError, match="are the same output; give two"):
        fix_data(check, [outputs[0], outputs[0]], overwrite=True)
    with pytest.raises(ValueError, match="as many outputs"):
        fix_data(check, outputs[:1])


def test_notes(sound, tmp_path):
    def change(data):
        data["annotations"][0]["iscrowd"] = 1
        data["annotations"][1].pop("segmentation")
        del data["annotations"][2]
        data["images"][3]["file_name"] = "copy.png"
        data["images"][5]["file_name"] = "pages.tiff"

    path, images = sound("train.json", [1, 2, 3, 4, 5, 6], change)
    shutil.copy(tmp_path / "images" / "5.png", tmp_path / "images" / "copy.png")
    pages = [Image.fromarray(pixels(number)) for number in (6, 7)]
    pages[0].save(tmp_path / "images" / "pages.tiff", save_all=True, append_images=pages[1:])
    check = check_data([(path, images)], progress=False)
    assert {(f.kind, f.entry) for f in check.findings} == {
        ("crowd", "annotation id 1"),
        ("masks missing", "annotation id 2"),
        ("no objects", "image id 3"),
        ("same image", "image id 5"),
        ("several frames", "image id 6"),
    }
    assert check.passes(strict=True)


@pytest.mark.parametrize(
    "mask",
    [
        [["1", "1", "9", "1", "9", "9"]],
        [[1, 1, 9, 1, 9, None]],
        {"size": 40, "counts": [2400]},
        {"size": [40, 60], "counts": ["a"]},
        {"size": [40, 60], "counts": [2410, -10]},
        {"size": [40, 60], "counts": "zz"},
        {"size": [40, 60], "counts": "1"},  # one pixel
        {"size": [40, 60], "counts": "P"},  # ends within a number
        {"size": [40, 60], "counts": 2400},
    ],
    ids=str,
)
def test_masks_that_cannot_be_read(mask, sound, tmp_path):
    path = sound("train.json", [1, 2], lambda d: d["annotations"][0].update(segmentation=mask))
    check = check_data([path], progress=False)
    assert faults(check) == [("not a mask", "annotation id 1")]
    done = fix_data(check, [str(tmp_path / "a.json")])[0].done
    assert done == "mask dropped, box kept: lost to a detector with masks"
    fixed = json.loads((tmp_path / "a.json").read_text())["annotations"]
    assert [a["bbox"] for a in fixed] == [[10, 5, 20, 30]] * 2


@pytest.mark.parametrize("seed", range(5))
def test_masks_as_pycocotools_writes_them(seed, sound):
    pixels = np.random.default_rng(seed).random((40, 60)) < (0.5, 0.01, 0, 1, 0.9)[seed]
    mask = mask_util.encode(np.asfortranarray(pixels, np.uint8))
    mask = {"size": mask["size"], "counts": mask["counts"].decode()}
    path = sound("train.json", [1, 2], lambda d: d["annotations"][0].update(segmentation=mask))
    empty = [("empty mask", "annotation id 1")]
    assert faults(check_data([path], progress=False)) == (empty if seed == 2 else [])


@pytest.mark.parametrize("value", [None, "0", 2])
def test_training_refuses_an_iscrowd_that_it_would_take_for_a_crowd(value, sound):
    path = sound("train.json", [1, 2], lambda d: d["annotations"][0].update(iscrowd=value))
    with pytest.raises(ValueError, match="annotation id 1 has iscrowd .*, not 0 or 1"):
        read_coco(*path)


def test_what_only_a_person_can_settle(sound, tmp_path):
    train = sound("train.json", [1, 2])
    val = sound("val.json", [3, 4], lambda d: d["categories"][1].update(name="wolf"))
    check = check_data([train, val], progress=False)
    assert faults(check) == [("categories differ", "")]
    assert "(2, 'dog'), (2, 'wolf')" in check.findings[0].reason
    with pytest.raises(ValueError, match="(?s)without guessing.*its categories are not those"):
        fix_data(check, [str(tmp_path / "a.json"), str(tmp_path / "b.json")])
    assert not (tmp_path / "a.json").exists()


def test_overlap_with_anchors(sound):
    anchors = Anchors([[32], [64]], [[0.5, 1.0, 2.0]], 80, 1000)
    boxes = np.array([[16, 16], [8, 8], [16, 32], [1, 1]], float)
    images = np.array([[60, 40]] * 4, float)  # all resized to twice their size
    overlaps = anchor_overlaps(boxes, images, anchors)
    assert overlaps[:3] == pytest.approx([1, 0.25, 0.5]) and overlaps[3] < 0.01
    path, images = sound("train.json", [1, 2])
    check = check_data([(path, images)], anchors=anchors, progress=False)
    assert [f.kind for f in check.findings] == []
    assert [(c.name, c.objects, c.share) for c in check.classes] == [
        ("cat", 1, 0.5),
        ("dog", 1, 0.5),
    ]
    far = check_data([(path, images)], anchors=anchors._replace(sizes=[[512]]), progress=False)
    assert [f.entry for f in far.findings] == ["class cat", "class dog"]
    assert "100% of its boxes overlap no anchor with IoU 0.4" in far.findings[0].reason


def test_pairing_of_paths(sound, tmp_path):
    train, images = sound("train.json", [1])
    val, _ = sound("val.json", [2])
    other = tmp_path / "other"
    other.mkdir()
    assert pair_paths([train, images, val]) == [(train, images), (val, images)]
    assert pair_paths([train, images, val, str(other)])[1] == (val, str(other))
    with pytest.raises(ValueError, match="is without images"):
        pair_paths([train, val])
    with pytest.raises(ValueError, match="follows no annotation file"):
        pair_paths([images, train])
    with pytest.raises(FileNotFoundError, match="nowhere"):
        pair_paths([train, "nowhere"])
    with pytest.raises(ValueError, match="is given twice"):
        check_data([(train, images)] * 2)


def test_training_refuses_what_the_check_calls_an_error(planted):
    paths, _ = planted
    with pytest.raises(ValueError, match="(?s)annotation id 1: its bbox.*and 5 more"):
        read_coco(*paths[:2])


@pytest.fixture
def run():
    """A function that runs the command and gives its exit code and what it printed."""
    import typer
    from typer.testing import CliRunner

    app = typer.Typer()
    app.command()(command)
    return lambda *args: CliRunner().invoke(app, list(map(str, args)))


def test_command(run, planted, sound, tmp_path):
    paths, _ = planted
    assert run(*paths).exit_code == 1
    warned = sound("warned.json", [50, 51], lambda d: d["annotations"][0].update(area=0))
    config = "quick_schedules/faster_rcnn_ResNeSt_14_FPN_quick.yaml"
    result = run(*warned, "--config", config)
    assert result.exit_code == 0 and "0 errors, 1 warning" in result.output
    assert "anchor IoU >= 0.5" in result.output
    assert run(*warned, "--strict").exit_code == 1
    fixed = tmp_path / "fixed.json"
    assert run(*warned, "--fix", fixed).exit_code == 0
    assert run(fixed, warned[1], "--strict").exit_code == 0


@pytest.mark.parametrize("number", [1, 40])
def test_reasons_are_shown_without_control_characters(number):
    name = "a\x1b[2J.png"
    kind = next(iter(KINDS))
    found = [Finding(kind, "x.json", f"image {i}", f"{name} is missing") for i in range(number)]
    rows = rows_of(found)
    assert len(rows) == 1 and r"a\x1b[2J.png is missing" in rows[0][-1]
    assert rows[0][-1].isprintable()
