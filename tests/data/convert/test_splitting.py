"""A COCO file is split into disjoint, complete files with equal shares of the classes."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from resnest_d2.data import read_coco
from resnest_d2.data.convert import Plan, split_data

EXTRA = {"info": {"year": 2026}, "licenses": [{"id": 3}], "mine": {"a": [1, 2.5]}}
NAMES = ("cell", "nucleus", "debris", "rare")


def noise(seed):
    rng = np.random.default_rng(seed)
    return Image.fromarray(rng.integers(0, 255, (6, 8, 3), np.uint8)).resize(
        (80, 60), Image.Resampling.BICUBIC
    )


def write(folder, number=60, copies=8):
    """Images of several classes, some without objects; the last are smaller copies of the first."""
    rng = np.random.default_rng(5)
    (folder / "images").mkdir(parents=True)
    images, annotations = [], []
    for i in range(number):
        image = noise(i) if i < number - copies else noise(i - number + copies).resize((60, 45))
        image.save(folder / "images" / f"{i}.png")
        size = dict(zip(("width", "height"), image.size, strict=True))
        images.append(
            {"id": 7 * i, "file_name": f"{i}.png", **size, "license": 3, "patient": i // 3}
        )
        mean = np.array([6, 2, 1, 0.2]) * (i % 6 > 0)
        for category, objects in enumerate(rng.poisson(mean), 1):
            for _ in range(objects):
                annotations.append(
                    {
                        "id": len(annotations),
                        "image_id": 7 * i,
                        "category_id": 10 * category,
                        "bbox": [1.1, 2, 30, 20],
                        "area": 600,
                        "iscrowd": 0,
                        "track": "x",
                    }
                )
    categories = [
        {"id": 10 * i, "name": name, "color": "red"} for i, name in reversed([*enumerate(NAMES, 1)])
    ]
    data = {**EXTRA, "images": images, "annotations": annotations, "categories": categories}
    (folder / "all.json").write_text(json.dumps(data))
    return data


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    folder = tmp_path_factory.mktemp("split")
    return folder, write(folder)


def split(source, output, plan, **options):
    folder, _ = source
    files = (str(folder / "all.json"), str(folder / "images"))
    return split_data(*files, plan, output=str(output), **options)


def load(path):
    return json.loads(Path(path).read_text())


def shares(data):
    counts = np.array(
        [sum(a["category_id"] == 10 * i for a in data["annotations"]) for i in range(1, 5)]
    )
    return counts / counts.sum()


def require_imagehash():
    pytest.importorskip("imagehash", reason="the extra split is not installed")


def test_the_sides_are_disjoint_complete_and_alike(source, tmp_path):
    require_imagehash()
    _, whole = source
    done = split(source, tmp_path / "out", Plan(val=0.2, test=0.1))
    assert done.files == [f"{tmp_path}/out/{name}.json" for name in ("train", "val", "test")]
    parts = [load(path) for path in done.files]
    for section in ("images", "annotations"):
        found = [entry for part in parts for entry in part[section]]
        assert sorted(found, key=lambda e: e["id"]) == whole[section]  # each once, as it was
    for part, share in zip(parts, (0.7, 0.2, 0.1), strict=True):
        assert {**part, "images": 0, "annotations": 0} == {**whole, "images": 0, "annotations": 0}
        ids = {image["id"] for image in part["images"]}
        assert {annotation["image_id"] for annotation in part["annotations"]} <= ids
        assert np.abs(shares(part) - shares(whole)).max() < 0.02
        assert len(ids) == pytest.approx(60 * share, abs=1)
        empty = ids - {annotation["image_id"] for annotation in part["annotations"]}
        assert len(empty) == pytest.approx(11 * share, abs=1)
    # Copies are where their originals are.
    side = {image["id"] // 7: i for i, part in enumerate(parts) for image in part["images"]}
    assert all(side[52 + i] == side[i] for i in range(8))
    assert done.notes[0].startswith("16 images are in 8 groups of near-duplicates")
    assert done.masks is False
    read_coco(done.files[1], str(source[0] / "images"))


def test_the_table_has_the_counts(source, tmp_path):
    done = split(source, tmp_path, Plan(max_distance=-1))
    rows = [line.split() for line in done.table.splitlines()]
    assert rows[0] == ["class", "all", "%", "train", "%", "val", "%"]
    for row, name in zip(rows[2:6], reversed(NAMES), strict=True):
        assert row[0] == name
        numbers = [
            sum(a["category_id"] == 10 * (NAMES.index(name) + 1) for a in data["annotations"])
            for data in (source[1], *map(load, done.files))
        ]
        assert [int(number) for number in row[1::2]] == numbers
        assert float(row[2]) == pytest.approx(
            100 * numbers[0] / len(source[1]["annotations"]), abs=0.1
        )
    assert rows[-2] == ["images", "60", "48", "12"] and rows[-1] == [
        "without",
        "objects",
        "11",
        "9",
        "2",
    ]


def test_folds(source, tmp_path):
    _, whole = source
    done = split(source, tmp_path, Plan(folds=4, test=0.1, max_distance=-1))
    test = load(tmp_path / "test.json")
    test_ids = {image["id"] for image in test["images"]}
    every = {image["id"] for image in whole["images"]} - test_ids
    seen = []
    for i in range(1, 5):
        train, val = (load(tmp_path / f"fold_{i}" / f"{name}.json") for name in ("train", "val"))
        ids = [{image["id"] for image in part["images"]} for part in (train, val)]
        assert not ids[0] & ids[1] and ids[0] | ids[1] == every
        assert np.abs(shares(val) - shares(whole)).max() < 0.02
        seen += ids[1]
    assert sorted(seen) == sorted(every) and len(test_ids) == 6
    assert len(done.files) == 9 and done.files[:2] == [
        f"{tmp_path}/fold_1/train.json",
        f"{tmp_path}/fold_1/val.json",
    ]


def test_the_seed_decides(source, tmp_path):
    texts = []
    for i, seed in enumerate((1, 1, 2)):
        done = split(source, tmp_path / str(i), Plan(seed=seed, max_distance=-1))
        texts.append([Path(path).read_bytes() for path in done.files])
    assert texts[0] == texts[1] != texts[2]


def test_images_of_a_patient_stay_together(source, tmp_path):
    done = split(source, tmp_path, Plan(group_by="patient", max_distance=-1))
    train, val = ({image["patient"] for image in load(path)["images"]} for path in done.files)
    assert not train & val and len(train | val) == 20
    assert done.notes[0].startswith("60 images are in 20 groups")


def test_nothing_is_replaced_or_half_written(source, tmp_path, monkeypatch):
    plan = Plan(max_distance=-1)
    (tmp_path / "val.json").write_text("mine")
    with pytest.raises(FileExistsError, match="val.json exists"):
        split(source, tmp_path, plan)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["val.json"]

    def fail(content, file):
        file.write("{")
        if "val" in file.name:
            raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("resnest_d2.files.json.dump", fail)
        with pytest.raises(OSError, match="cannot be written"):
            split(source, tmp_path, plan, overwrite=True)
    assert (tmp_path / "val.json").read_text() == "mine"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["val.json"]
    (tmp_path / "test.json").write_text("{}")
    done = split(source, tmp_path, plan, overwrite=True)
    assert load(tmp_path / "val.json")["mine"] == EXTRA["mine"]
    assert done.notes[-1].startswith("Of an earlier split")
    assert done.notes[-1].endswith(f"{tmp_path}/test.json.")


def test_the_source_is_never_replaced(source, tmp_path):
    data = (source[0] / "all.json").read_text()
    (tmp_path / "train.json").write_text(data)
    with pytest.raises(ValueError, match="train.json is an input"):
        split_data(
            str(tmp_path / "train.json"),
            str(source[0] / "images"),
            Plan(max_distance=-1),
            output=str(tmp_path),
            overwrite=True,
        )
    assert (tmp_path / "train.json").read_text() == data
    with pytest.raises(FileNotFoundError, match="gone.json"):
        split_data("gone.json", str(tmp_path), Plan(), output=str(tmp_path), overwrite=True)


@pytest.mark.parametrize(
    ("plan", "message"),
    [
        (Plan(val=0), "--val is 0; give a share"),
        (Plan(val=0.8, test=0.2), "--test 0.2 and --val 0.8 leave no images"),
        (Plan(val=float("nan")), "--val is nan"),
        (Plan(test=-0.1), "--test -0.1"),
        (Plan(test=1, folds=3), "--test 1 leave no images"),
        (Plan(folds=1), "--folds is 1; give at least 2"),
        (Plan(folds=70, max_distance=-1), "60 images in 60 groups .* into 70 sets"),
        (Plan(group_by="nowhere", max_distance=-1), "60 images have no field nowhere"),
    ],
)
def test_impossible_plans(plan, message, source, tmp_path):
    with pytest.raises(ValueError, match=message):
        split(source, tmp_path / "out", plan)
    assert not (tmp_path / "out").exists()


def test_an_absent_class_and_an_uneven_one_are_noted(tmp_path, coco_files):
    def change(data):
        data["annotations"][1]["category_id"] = 3

    files = coco_files(change)
    plan = Plan(val=0.5, max_distance=-1)
    done = split_data(*files, plan, output=str(tmp_path / "out"))
    assert len(done.notes) == 4 and done.masks is True
    assert "train has none of the 1 objects of " in done.notes[0]
    assert "is 50.0 points above that in all." in done.notes[1]


def test_groups_that_are_too_large_are_noted(source, tmp_path):
    (folder, _), plan = source, Plan(group_by="license", max_distance=-1)
    with pytest.raises(ValueError, match="60 images in 1 groups .* into 2 sets; lower --max-dist"):
        split(source, tmp_path / "b", plan)
    data = load(folder / "all.json")
    for i, image in enumerate(data["images"]):
        image["video"] = int(i < 30)
    (tmp_path / "all.json").write_text(json.dumps(data))
    plan = Plan(group_by="video", max_distance=-1)
    files = str(tmp_path / "all.json"), str(folder / "images")
    done = split_data(*files, plan, output=str(tmp_path / "c"))
    assert done.notes[2].startswith("val has 50% of the images instead of 20%")


def test_real_images(realdata, tmp_path):
    """Two pairs of photographs of the same cells are among them."""
    require_imagehash()
    folder = realdata / "bccd"
    data = {"images": [], "annotations": []}
    for name in ("train", "val", "test"):
        part = load(folder / f"{name}.json")
        data["images"] += part["images"]
        data["annotations"] += part["annotations"]
        data["categories"] = part["categories"]
    for i, annotation in enumerate(data["annotations"]):
        annotation["id"] = i
    (tmp_path / "all.json").write_text(json.dumps(data))
    files = str(tmp_path / "all.json"), str(folder / "images")
    done = split_data(*files, Plan(val=0.2, test=0.1), output=str(tmp_path))
    parts = [load(path) for path in done.files]
    names = [{image["file_name"] for image in part["images"]} for part in parts]
    for pair in (("00037", "00038"), ("00386", "00391")):
        assert len({[f"BloodImage_{n}.jpg" in own for own in names].index(True) for n in pair}) == 1
    assert done.notes == [
        "4 images are in 2 groups of near-duplicates or of --group-by, the largest of 2; each "
        "group is in one set."
    ]
