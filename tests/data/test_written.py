"""Data as tools write it: the check, loading, the mapper and scoring agree on every kind."""

import copy
import json
import logging
import math

import cv2
import numpy as np
import pytest
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog
from PIL import Image

from resnest_d2 import get_cfg, register_datasets
from resnest_d2.data import read_coco
from resnest_d2.data.coco import load_images
from resnest_d2.data.coco_api import complete_annotations, read_api
from resnest_d2.data.mapper import NamingDatasetMapper
from resnest_d2.data.validate import check_data, fix_data, repair_table
from resnest_d2.errors import UserError

HEIGHT, WIDTH = 40, 60
SQUARE = [10, 5, 30, 5, 30, 35, 10, 35]
RLE = {"size": [HEIGHT, WIDTH], "counts": [405, 30, 1965]}


def part(segmentation):
    """A change that gives the first of four annotations another mask."""
    return lambda data: data["annotations"][0].update(segmentation=segmentation)


def every(change):
    def apply(data):
        for annotation in data["annotations"]:
            change(annotation)

    return apply


def crowd(segmentation):
    return lambda d: d["annotations"][0].update(iscrowd=1, segmentation=segmentation)


def image_field(**fields):
    return lambda data: data["images"][0].update(fields)


def floats(data):
    for image in data["images"]:
        image.update(id=float(image["id"]), height=float(HEIGHT), width=float(WIDTH))
    for annotation in data["annotations"]:
        annotation.update(image_id=float(annotation["image_id"]), id=float(annotation["id"]))
        annotation["segmentation"] = {"size": [40.0, 60.0], "counts": [405.0, 30.0, 1965.0]}


def as_corners(a):
    x, y, w, h = a["bbox"]
    a["bbox"] = [x, y, x + w, y + h]


def as_shares(a):
    x, y, w, h = a["bbox"]
    a["bbox"] = [x / WIDTH, y / HEIGHT, w / WIDTH, h / HEIGHT]
    a["segmentation"] = []


# Kind: change, findings that are no notes (kind -> number), boxes and masks loaded, mask format.
TRAINED = {
    "sound": (lambda d: None, {}, 4, 4, "polygon"),
    "whole floats": (floats, {}, 4, 4, "bitmask"),
    "box as polygon": (part([[10, 5, 30, 35]]), {"polygon": 1}, 4, 3, ""),
    "empty polygon": (part([[]]), {"polygon": 1}, 4, 3, ""),
    "bad beside good polygon": (part([[1, 1], SQUARE]), {"polygon": 1}, 4, 4, "polygon"),
    "null mask": (part(None), {}, 4, 3, ""),
    "mask as text": (part(str([SQUARE])), {"not a mask": 1}, 4, 3, ""),
    "far polygon": (part([[1e9, *SQUARE[1:]]]), {"not a mask": 1}, 4, 3, ""),
    "far negative polygon": (part([[-1e308, *SQUARE[1:]]]), {"not a mask": 1}, 4, 3, ""),
    "infinite polygon": (part([[math.inf, *SQUARE[1:]]]), {"not a mask": 1}, 4, 3, ""),
    "RLE of another size": (part({**RLE, "size": [60, 40]}), {"not a mask": 1}, 4, 3, ""),
    "RLE that ends early": (part({**RLE, "counts": [405, 30]}), {"not a mask": 1}, 4, 3, ""),
    "RLE of broken runs": (part({**RLE, "counts": [405.5, 1994.5]}), {"not a mask": 1}, 4, 3, ""),
    "RLE without runs": (part({**RLE, "counts": ""}), {"not a mask": 1}, 4, 3, ""),
    "empty RLE": (part({**RLE, "counts": [2400]}), {"empty mask": 1}, 4, 3, ""),
    "crowd as RLE": (crowd(RLE), {}, 4, 4, "polygon"),
    "crowd without mask": (crowd([]), {}, 4, 3, "polygon"),
    "crowd with a bad mask": (crowd({**RLE, "counts": "zz"}), {"not a mask": 1}, 4, 3, "polygon"),
    "true as iscrowd": (crowd(RLE), {}, 4, 4, "polygon"),
    "null ignore": (lambda d: d["annotations"][0].update(ignore=None), {}, 4, 4, "polygon"),
    "mask missing on an empty box": (
        lambda d: d["annotations"][0].update(bbox=[1, 1, 0, 0], segmentation=[]),
        {"unusable box": 1},
        3,
        3,
        "polygon",
    ),
    "normalised boxes": (every(as_shares), {"normalised boxes": 1}, 4, 0, ""),
    "corners": (every(as_corners), {"corners": 1}, 4, 4, "polygon"),
}
# Kind: change, kind of the finding, and words of the error.
REFUSED = {
    "NaN height": (image_field(height=math.nan), "field", "image number 0 .id 1. has height nan"),
    "infinite width": (image_field(width=math.inf), "field", "has width inf"),
    "broken width": (image_field(width=60.5), "field", "has a size of 60.5 x 40 pixels"),
    "size as text": (image_field(width="60"), "field", "has width '60', which is no number"),
    "another height": (
        image_field(height=41),
        "image size",
        "image id 1: 1.png has 60 x 40 pixels, not 60 x 41",
    ),
    "NaN id": (image_field(id=math.nan), "field", "has id nan, which is no number"),
    "NaN box": (
        every(lambda a: a.update(bbox=[1, 2, math.nan, 4])),
        "not a box",
        "annotation id 1",
    ),
    "infinite box": (every(lambda a: a.update(bbox=[1, 2, math.inf, 4])), "not a box", "inf"),
    "box as text": (every(lambda a: a.update(bbox="[1, 2, 3, 4]")), "not a box", "its bbox"),
    "null box": (every(lambda a: a.update(bbox=None)), "field", "has no bbox"),
}


@pytest.fixture
def written(tmp_path):
    """A function that writes two images of two objects each, changed as the test wants."""

    def write(change=lambda data: None, *, encoding="utf-8"):
        (tmp_path / "images").mkdir(exist_ok=True)
        data = {
            "images": [
                {"id": i, "file_name": f"{i}.png", "height": HEIGHT, "width": WIDTH} for i in (1, 2)
            ],
            "categories": [{"id": 1, "name": "cat"}],
            "annotations": [
                {"id": i, "image_id": 1 + i % 2, "category_id": 1, "area": 600, "iscrowd": 0}
                | {"bbox": [10, 5, 20, 30], "segmentation": [list(SQUARE)]}
                for i in (1, 2, 3, 4)
            ],
        }
        change(data)
        for i in (1, 2):
            path = str(tmp_path / "images" / f"{i}.png")
            cv2.imwrite(path, np.full((HEIGHT, WIDTH, 3), 40 * i, np.uint8))
        (tmp_path / "train.json").write_text(json.dumps(data), encoding=encoding)
        return str(tmp_path / "train.json"), str(tmp_path / "images")

    return write


@pytest.fixture
def forget():
    """Takes the data set of the test out of the catalogs again."""
    yield
    for catalog in (DatasetCatalog, MetadataCatalog):
        if "written" in catalog.list():
            catalog.remove("written")


def config(paths, **keys):
    cfg = get_cfg()
    cfg.MODEL.DEVICE = "cpu"
    cfg.DATASETS.COCO = [["written", *paths]]
    cfg.DATASETS.TRAIN = ("written",)
    cfg.INPUT.MIN_SIZE_TRAIN = (40,)
    for key, value in keys.items():
        cfg.merge_from_list([key, value])
    return cfg


def counts(paths):
    """Findings that are no notes, by kind."""
    found = {}
    for finding in check_data([paths], progress=False).findings:
        if finding.severity != "note":
            found[finding.kind] = found.get(finding.kind, 0) + 1
    return found


def batch(cfg, paths):
    return [NamingDatasetMapper(cfg)(copy.deepcopy(record)) for record in load_images(*paths)]


@pytest.mark.parametrize("kind", TRAINED)
def test_check_loading_mapper_and_scoring_agree(kind, written, forget, caplog):
    change, findings, boxes, masks, mask_format = TRAINED[kind]
    paths = written(change)
    assert {k: n for k, n in counts(paths).items() if k != "box beyond image"} == findings
    facts = read_coco(*paths)
    assert facts.mask_format == mask_format
    for found in findings:  # the check before training reports the same
        assert {"polygon": "have a polygon that is not"}.get(found, "") in caplog.text
    annotations = [a for record in load_images(*paths) for a in record["annotations"]]
    assert len(annotations) == boxes
    assert sum("segmentation" in a for a in annotations) == masks

    crowds = sum(bool(a.get("iscrowd")) for a in annotations)
    cfg = config(paths)
    register_datasets(cfg)
    loaded = batch(cfg, paths)
    assert sum(len(one["instances"]) for one in loaded) == facts.num_annotations == boxes - crowds

    with_masks = config(paths, **{"MODEL.MASK_ON": True})
    if mask_format:
        register_datasets(with_masks)
        assert with_masks.INPUT.MASK_FORMAT == mask_format
        assert sum(len(o["instances"].gt_masks) for o in batch(with_masks, paths)) == boxes - crowds
    else:
        missing = f"{facts.num_annotations - masks} of {facts.num_annotations} .ids 1"
        with pytest.raises(UserError, match=f"annotations of written have no .*{missing}"):
            register_datasets(with_masks)

    api = read_api(paths[0])
    complete_annotations(api)
    assert len(api.anns) == boxes  # what is not trained on is not scored either
    for annotation in api.anns.values():
        if annotation.get("segmentation"):
            assert api.annToMask(annotation).shape == (HEIGHT, WIDTH)


@pytest.mark.parametrize("kind", REFUSED)
def test_check_and_training_refuse_the_same(kind, written):
    change, finding, words = REFUSED[kind]
    paths = written(change)
    assert finding in counts(paths)
    with pytest.raises(UserError, match=words):
        read_coco(*paths)


@pytest.mark.parametrize("kind", [k for k in TRAINED if k not in ("normalised boxes", "corners")])
def test_a_clean_copy_keeps_every_box(kind, written, tmp_path):
    paths = written(TRAINED[kind][0])
    output = str(tmp_path / "clean.json")
    fix_data(check_data([paths], progress=False), [output])
    boxes = [a["bbox"] for a in json.loads((tmp_path / "clean.json").read_text())["annotations"]]
    assert boxes == [[10, 5, 20, 30]] * TRAINED[kind][2]
    assert counts((output, paths[1])) == {}


@pytest.mark.parametrize("kind", ["normalised boxes", "corners"])
def test_boxes_in_another_form_are_not_repaired(kind, written, tmp_path, caplog):
    paths = written(TRAINED[kind][0])
    looks = {"corners": "looks like x0, y0, x1, y1"}.get(kind, "looks like normalised boxes")
    check = check_data([paths], progress=False)
    assert looks in check.table()
    with pytest.raises(UserError, match=f"Nothing was written.*{looks}"):
        fix_data(check, [str(tmp_path / "clean.json")])
    read_coco(*paths)
    assert f"4 of 4 boxes: {looks}" in caplog.text


@pytest.mark.parametrize(
    "change",
    [
        lambda d: d["annotations"][0].update(bbox=[0, 0, 1, 1]),
        lambda d: d["annotations"][0].update(bbox=[30, 5, 40, 20]),  # one beyond its image
        every(lambda a: a.update(bbox=[2, 2, 50, 35], segmentation=[], area=1750)),
    ],
)
def test_ordinary_boxes_raise_no_guess(change, written):
    assert {"normalised boxes", "corners"}.isdisjoint(counts(written(change)))


@pytest.mark.parametrize("empty", [None, [], {}, ""])
def test_an_empty_segmentation_is_none(empty, written):
    paths = written(lambda d: d["annotations"][0].update(segmentation=empty))
    assert not counts(paths)  # of warnings and errors
    objects = [a for record in load_images(*paths) for a in record["annotations"]]
    assert len(objects) == 4 and sum("segmentation" not in a for a in objects) == 1
    assert "1 of 4" in read_coco(*paths).without_mask


def test_what_was_read_in_another_form_is_logged_once(written, caplog):
    caplog.set_level(logging.INFO)
    paths = written(floats)
    read_coco(*paths)
    load_images(*paths)
    line = "2 images of train.json: height written as 40.0 is read as 40."
    assert caplog.text.count(line) == 1
    notes = [f for f in check_data([paths], progress=False).findings if f.kind == "read as"]
    assert "2 images: height written as 40.0 is read as 40" in [str(note) for note in notes]
    record = load_images(*paths)[0]
    assert type(record["height"]) is type(record["image_id"]) is int


def test_a_byte_order_mark_is_no_fault(written):
    assert read_coco(*written(encoding="utf-8-sig")).num_annotations == 4


def test_more_objects_than_detections_are_reported(written):
    paths = written()
    (finding,) = check_data([paths], detections=1, progress=False).findings
    assert (finding.severity, finding.entry) == ("warning", "image id 2, 1")
    assert finding.reason.startswith("2 with more than 1 objects, up to 2, which cannot all be")
    assert not check_data([paths], detections=2, progress=False).findings


def test_many_equal_repairs_take_one_line(written, tmp_path):
    paths = written(every(lambda a: a.update(segmentation=[[]])))
    repairs = fix_data(check_data([paths], progress=False), [str(tmp_path / "clean.json")])
    assert len(repairs) == 4 and len(repair_table(repairs).splitlines()) == 3
    assert "lost to a detector with masks" in repair_table(repairs)


def test_many_equal_findings_take_one_line(written):
    check = check_data([written(every(lambda a: a.pop("area")))], progress=False)
    rows = [line for line in check.table().splitlines() if line.startswith("warning")]
    assert len(rows) == 1 and "annotation id 1, 2, 3, 4" in rows[0]
    assert "4 of them, the first: has no area" in rows[0] and len(check.findings) == 4


@pytest.mark.parametrize("dtype", [np.uint16, np.float32, np.int32])
def test_more_than_8_bits_are_refused_everywhere(dtype, written, tmp_path):
    paths = written(image_field(file_name="1.tif"))
    Image.fromarray(np.full((HEIGHT, WIDTH), 500, dtype)).save(tmp_path / "images" / "1.tif")
    assert counts(paths) == {"pixels": 1}
    with pytest.raises(UserError, match="Nothing was written.*scale its values to 0 .. 255"):
        fix_data(check_data([paths], progress=False), [str(tmp_path / "clean.json")])
    with pytest.raises(UserError, match="image id 1: 1.tif: it has more than 8 bits per channel"):
        read_coco(*paths)
    record = {"file_name": str(tmp_path / "images" / "1.tif"), "image_id": 1, "annotations": []}
    with pytest.raises(UserError, match="1.tif .image id 1. cannot be used: it has more than 8"):
        NamingDatasetMapper(get_cfg())(record)


@pytest.mark.parametrize("resizer", ["pil", "cv2"])
def test_thin_images_keep_a_pixel(resizer, tmp_path):
    cv2.imwrite(str(tmp_path / "thin.png"), np.full((1, 3000, 3), 120, np.uint8))
    cfg = get_cfg()
    cfg.INPUT.RESIZE = resizer
    record = {"file_name": str(tmp_path / "thin.png"), "image_id": 1, "height": 1, "width": 3000}
    assert NamingDatasetMapper(cfg, is_train=False)(record)["image"].shape == (3, 1, 1333)


def test_control_characters_never_reach_a_terminal(written):
    name = "a/b <b>&\x1b[31m\u202e\ud800細胞"
    paths = written(lambda d: d["categories"][0].update(name=name))
    safe = "a/b <b>&\\x1b[31m\\u202e\\ud800細胞"
    assert read_coco(*paths).classes == (safe,)
    check = check_data([paths], progress=False)
    shown = check.class_table() + check.table()
    assert safe in shown and "\x1b" not in shown
    gone = written(image_field(file_name="\x1b[2J.png"))
    with pytest.raises(UserError, match="there is no .x1b.2J.png") as error:
        read_coco(*gone)
    assert "\x1b" not in str(error.value) and "\x1b" not in check_data([gone]).table()


def test_a_long_class_name_is_cut_in_tables(written):
    paths = written(lambda d: d["categories"][0].update(name="x" * 5000))
    assert "x" * 61 not in check_data([paths], progress=False).class_table()
    assert read_coco(*paths).classes == ("x" * 5000,)


def test_a_set_without_objects_is_reported_before_training(written, forget, caplog):
    paths = written(lambda d: d["annotations"].clear())
    cfg = config(paths)
    cfg.DATASETS.TRAIN, cfg.DATASETS.TEST = (), ("written",)
    register_datasets(cfg)
    assert "written has no objects: there is nothing to evaluate on" in caplog.text
    cfg.SOLVER.EARLY_STOPPING.ENABLED = True
    with pytest.raises(UserError, match="EARLY_STOPPING.ENABLED is True, but written has no obj"):
        register_datasets(cfg)


def with_keypoints(names, skeleton=()):
    def apply(data):
        data["categories"][0].update(keypoints=names, skeleton=list(skeleton))
        for annotation in data["annotations"]:
            x, y, w, h = annotation["bbox"]
            annotation["keypoints"] = [x, y, 2, x + w - 1, y + h - 1, 2]
        data["annotations"][3].pop("keypoints")

    return apply


def test_keypoints_of_your_own(written, forget):
    paths = written(with_keypoints(["left_eye", "right_eye"], [[1, 2], [1, 9]]))
    cfg = config(paths, **{"MODEL.KEYPOINT_ON": True})
    register_datasets(cfg)
    assert cfg.MODEL.ROI_KEYPOINT_HEAD.NUM_KEYPOINTS == 2
    assert cfg.TEST.KEYPOINT_OKS_SIGMAS == [0.05, 0.05]
    metadata = MetadataCatalog.get("written")
    assert metadata.keypoint_flip_map == [("left_eye", "right_eye")]
    assert [rule[:2] for rule in metadata.keypoint_connection_rules] == [("left_eye", "right_eye")]
    found = torch.cat([one["instances"].gt_keypoints.tensor for one in batch(cfg, paths)])
    assert found.shape == (4, 2, 3) and (found[..., 2] > 0).sum() == 6
    api = read_api(paths[0])
    complete_annotations(api)
    assert [a["num_keypoints"] for a in api.anns.values()] == [2, 2, 2, 0]
    cfg.DATASETS.TRAIN, cfg.DATASETS.TEST = (), ("written",)  # as `resnest-d2 eval` sets them
    mapper = NamingDatasetMapper(cfg, is_train=False)
    assert mapper(load_images(*paths)[0])["image"].shape == (3, 800, 1200)


@pytest.mark.parametrize(
    ("skeleton", "lines"),
    [
        ([[1, 2.0], [3, 1]], [("a", "b"), ("c", "a")]),
        ([[1, 2.5], [1, "2"], [0, 1], [1, 4], [1], [1, None], 3], []),
        ([[float("nan"), 1], [float("inf"), 1], [10**400, 1]], []),
    ],
)
def test_lines_of_a_skeleton(skeleton, lines, written, forget):
    register_datasets(config(written(with_keypoints(["a", "b", "c"], skeleton))))
    rules = MetadataCatalog.get("written").keypoint_connection_rules
    assert [rule[:2] for rule in rules] == lines


@pytest.mark.parametrize(
    ("names", "flips"),
    [
        (["left", "right"], [("left", "right")]),
        (["eye_L", "eye_R", "nose"], [("eye_L", "eye_R")]),
        (["RightHand", "LeftHand"], [("RightHand", "LeftHand")]),
        (["head", "tail"], []),
        (["a", "a"], []),
    ],
)
def test_sides_come_from_the_names(names, flips, written, forget):
    register_datasets(config(written(with_keypoints(names))))
    assert MetadataCatalog.get("written").keypoint_flip_map == flips
    assert len(set(MetadataCatalog.get("written").keypoint_names)) == len(names)


@pytest.mark.parametrize(
    ("change", "keys", "words"),
    [
        (lambda d: None, {}, "written has no keypoints"),
        (with_keypoints(["a", "b", "c"]), {}, "3 annotations have unusable keypoints: annotation"),
        (
            with_keypoints(["a", "b"]),
            {"TEST.KEYPOINT_OKS_SIGMAS": [0.1]},
            "SIGMAS has 1 values, but written has 2 keypoints",
        ),
        (
            with_keypoints(["a", "b"]),
            {"MODEL.ROI_KEYPOINT_HEAD.NUM_KEYPOINTS": 5},
            "NUM_KEYPOINTS is 5, but written has 2 keypoints",
        ),
    ],
)
def test_keypoints_that_disagree(change, keys, words, written, forget):
    paths = written(change)
    with pytest.raises(UserError, match=words):
        register_datasets(config(paths, **{"MODEL.KEYPOINT_ON": True, **keys}))


def test_bad_keypoints_cost_no_box(written, forget, tmp_path):
    def change(data):
        with_keypoints(["a", "b"])(data)
        data["annotations"][0]["keypoints"][2] = 7

    paths = written(change)
    assert counts(paths) == {"keypoints": 1}
    cfg = config(paths)
    register_datasets(cfg)
    assert sum(len(one["instances"]) for one in batch(cfg, paths)) == 4
    fix_data(check_data([paths], progress=False), [str(tmp_path / "clean.json")])
    clean = json.loads((tmp_path / "clean.json").read_text())["annotations"]
    assert ["keypoints" in a for a in clean] == [False, True, True, False]
