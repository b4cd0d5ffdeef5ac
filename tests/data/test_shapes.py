import errno
import json
import os

import cv2
import numpy as np
import pycocotools.mask as mask_util
import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog
from torch import multiprocessing as mp

from resnest_d2.data import shapes
from resnest_d2.files import WriteError


@pytest.fixture
def small(monkeypatch, tmp_path):
    """The data set with three images a split, in a folder of its own."""
    monkeypatch.setenv("RESNEST_D2_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(shapes, "SPLITS", {"shapes_train": (0, 3), "shapes_val": (1, 3)})
    return tmp_path / "cache"


def test_registered():
    records = DatasetCatalog.get("shapes_val")
    assert len(records) == 100
    assert MetadataCatalog.get("shapes_val").thing_classes == list(shapes.CLASSES)
    assert {a["category_id"] for r in records for a in r["annotations"]} == set(range(3))
    image = cv2.imread(records[0]["file_name"])
    assert image.shape[:2] == (records[0]["height"], records[0]["width"])


def test_same_pixels_every_time(small):
    folder = shapes.prepare_shapes()
    data = json.load(open(os.path.join(folder, "shapes_train.json")))
    image, drawn = shapes.draw_image(np.random.default_rng([shapes.VERSION, 0, 1]))
    np.testing.assert_array_equal(cv2.imread(f"{folder}/shapes_train/0001.png"), image)
    annotations = [a for a in data["annotations"] if a["image_id"] == 2]
    assert len(annotations) == len(drawn) > 0
    for annotation, (category, mask) in zip(annotations, drawn, strict=True):
        assert annotation["category_id"] == category + 1
        np.testing.assert_array_equal(mask_util.decode(annotation["segmentation"]), mask)
        ys, xs = mask.nonzero()
        box = [xs.min(), ys.min(), np.ptp(xs) + 1, np.ptp(ys) + 1]
        assert annotation["bbox"] == [float(v) for v in box]
        assert annotation["area"] == mask.sum()


def test_the_seed_stays_the_same():
    # Another generator, or another order of drawing, would make other images elsewhere.
    _, drawn = shapes.draw_image(np.random.default_rng([1, 0, 0]))
    assert [shapes.CLASSES[category] for category, _ in drawn] == [
        "triangle",
        "square",
        "square",
        "triangle",
    ]
    areas = [int(mask.sum()) for _, mask in drawn]
    assert areas == pytest.approx([1452, 2633, 2269, 397], rel=0.02)  # OpenCV's outlines may differ


def test_shapes_do_not_share_pixels_and_stay_in_sight(small):
    overlaps = 0
    for index in range(20):
        _, drawn = shapes.draw_image(np.random.default_rng([1, 0, index]))
        covered = sum(mask.astype(int) for _, mask in drawn)
        assert covered.max() == 1
        boxes = [mask_util.toBbox(mask_util.encode(np.asfortranarray(m))) for _, m in drawn]
        ious = mask_util.iou(np.array(boxes), np.array(boxes), [0] * len(boxes))
        overlaps += (ious - np.eye(len(boxes)) > 0).sum()
    assert overlaps > 0


def test_written_once(small):
    folder = shapes.prepare_shapes()
    before = os.stat(f"{folder}/shapes_val.json").st_mtime_ns
    assert shapes.prepare_shapes() == folder
    assert os.stat(f"{folder}/shapes_val.json").st_mtime_ns == before


def test_failure_leaves_nothing_half_done(small, monkeypatch):
    def full(*args, **kwargs):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(shapes, "_write_split", full)
    with pytest.raises(WriteError, match="shapes-v1.*No space left.*MB free"):
        shapes.prepare_shapes()
    assert not [p for p in small.iterdir() if p.is_dir()]


def _prepare(rank, folder):
    os.environ["RESNEST_D2_CACHE"] = folder
    shapes.SPLITS = {"shapes_train": (0, 20), "shapes_val": (1, 3)}
    with open(f"{folder}.{rank}", "w") as file:
        file.write(shapes.prepare_shapes())


def test_several_processes_together(tmp_path):
    folder = tmp_path / "cache"
    mp.spawn(_prepare, (str(folder),), nprocs=3)
    (made,) = [p for p in folder.iterdir() if p.is_dir()]
    assert len(list((made / "shapes_train").iterdir())) == 20
    assert {open(f"{folder}.{rank}").read() for rank in range(3)} == {str(made)}


def test_a_cache_of_another_user_is_read(small, monkeypatch):
    folder = shapes.prepare_shapes()

    def refused(path):
        raise PermissionError(f"{path}.lock")

    monkeypatch.setattr(shapes, "file_lock", refused)
    assert shapes.prepare_shapes() == folder
    monkeypatch.setenv("RESNEST_D2_CACHE", str(small / "other"))
    with pytest.raises(WriteError, match="other/shapes-v1.* cannot be written"):
        shapes.prepare_shapes()
    (small / "file").touch()
    monkeypatch.setenv("RESNEST_D2_CACHE", str(small / "file"))
    with pytest.raises(WriteError, match="The folder .*file cannot be made"):
        shapes.prepare_shapes()


def test_without_a_home_folder_the_cache_is_a_temporary_one(monkeypatch, tmp_path):
    for name in ("RESNEST_D2_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)  # of a user without a name
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    assert shapes.cache_dir() == str(tmp_path / "resnest_d2")
