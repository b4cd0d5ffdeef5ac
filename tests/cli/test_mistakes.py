"""Mistakes of every kind: one sentence that names the culprit, exit code 1, no traceback."""

import contextlib
import json
import struct
import sys
from importlib import import_module
from pathlib import Path

import pytest
import small
import torch
from detectron2.modeling import build_model
from PIL import Image

from resnest_d2 import load_config
from resnest_d2.model_zoo.table import find_model

sys.path.insert(0, str(Path(__file__).parents[2]))  # where train_net.py is
QUICK = small.FASTER
DATA = ["--data", "train.json", "images"]
KEYS = [*small.KEYS, "MODEL.RESNETS.WIDTH_PER_GROUP", "16", "MODEL.RESNETS.RES2_OUT_CHANNELS", "64"]
BOX = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 1, 9, 9], "iscrowd": 0}
IMAGE = {"id": 1, "file_name": "a.png", "height": 40, "width": 60}


class Code:
    """Runs code where a pickle that is not read safely is opened."""

    def __reduce__(self):
        return (print, ("run",))


def coco(**changes):
    return {
        "images": [IMAGE],
        "annotations": [BOX],
        "categories": [{"id": 1, "name": "cat"}],
        **changes,
    }


def write_files(folder):
    """Files good and bad, which the cases name."""
    text = {
        "text.txt": "no image",
        "text.json": "no json",
        "cut.json": '{"images": [',
        "list.json": "[1, 2]",
        "number.json": "3",
        "null.json": "null",
        "empty.json": "",
        "deep.json": "[" * 100_000,
        "tab.yaml": "MODEL:\n\tMASK_ON: True\n",
        "colon.yaml": "MODEL: a: b\n",
        "open.yaml": "MODEL: {MASK_ON: [1\n",
        "tag.yaml": "MODEL: !!python/object/apply:os.getcwd []\n",
        "key.yaml": "MODEL: {MASK_ONN: True}\n",
        "type.yaml": "SOLVER: {MAX_ITER: many}\n",
        "page.pth": "<!DOCTYPE html><html></html>",
        "empty.pth": "",
        "text.pth": "weights",
        "bad.safetensors": "weights",
        "page.png": "<html>",
        "empty.png": "",
        "video.mp4": "no video",
        "yolo/data.yaml": "names: [cat]\ntrain: images\n",
        "yolo/labels/a.txt": "7 .5 .5 .1 .1\n",
        "yolo2/data.yaml": "names: [cat]\ntrain: nowhere\n",
        "yolo3/data.yaml": "names: 3\ntrain: images\n",
        "yolo4/data.yaml": "names: {a: cat}\ntrain: images\n",
        "yolo5/data.yaml": "names: [cat\n",
        "yolo6/data.yaml": "names: [cat]\n",
        "yolo7/data.yaml": "names: [cat]\ntrain: images\n",
        "yolo7/labels/a.txt": "0 .5 abc .1 .1\n",
        "voc/a.xml": "<annotation><object>",
        "voc2/a.xml": "<annotation><object><name>cat</name></object></annotation>",
        "voc3/a.xml": "<annotation><size><width>wide</width></size></annotation>",
        "voc4/Annotations/a.xml": "<annotation></annotation>",
        "labelme/a.json": "{}",
        "labelme2/a.json": '{"imagePath": "a.png", "shapes": [3]}',
        "labelme3/a.json": '{"imagePath": "gone.png", "shapes": []}',
        "labelme4/a.json": json.dumps(
            {
                "imagePath": "a.png",
                "shapes": [{"label": "cat", "shape_type": "polygon", "points": [[1, "x"]]}],
            }
        ),
        "unevaluated/config.yaml": "MODEL: {}\n",
        "wrongly/results.json": "no json",
        "listed/results.json": "[1]",
    }
    for name, content in text.items():
        (folder / name).parent.mkdir(exist_ok=True, parents=True)
        (folder / name).write_text(content)
    files = {
        "no_images.json": {"annotations": [], "categories": []},
        "strings.json": coco(images="a.png"),
        "no_classes.json": coco(categories=[]),
        "no_annotations.json": coco(annotations=[]),
        "no_id.json": coco(images=[{k: v for k, v in IMAGE.items() if k != "id"}]),
        "twice.json": coco(annotations=[BOX, BOX]),
        "category.json": coco(annotations=[{**BOX, "category_id": 99}]),
        "other_image.json": coco(annotations=[{**BOX, "image_id": 42}]),
        "short_box.json": coco(annotations=[{**BOX, "bbox": [1, 2, 3]}]),
        "text_box.json": coco(annotations=[{**BOX, "bbox": "1 2 3 4"}]),
        "negative.json": coco(annotations=[{**BOX, "bbox": [5, 5, -3, 2]}]),
        "rle.json": coco(annotations=[{**BOX, "segmentation": {"size": [1, 1], "counts": "a"}}]),
        "polygon.json": coco(annotations=[{**BOX, "segmentation": [["x", 1, 2, 3, 4, 5]]}]),
        "iscrowd.json": coco(annotations=[{**BOX, "iscrowd": 7}]),
        "size.json": coco(images=[{**IMAGE, "width": 61}]),
        "gone_image.json": coco(images=[{**IMAGE, "file_name": "gone.png"}]),
        "page_image.json": coco(images=[{**IMAGE, "file_name": "page.png"}]),
        "cut_image.json": coco(images=[{**IMAGE, "file_name": "cut.png"}]),
        "good.json": coco(),
        "train.json": coco(
            categories=[{"id": i, "name": name} for i, name in enumerate(("cat", "dog", "ox"), 1)]
        ),
    }
    for name, content in files.items():
        (folder / name).write_text(json.dumps(content))
    (folder / "bytes.json").write_bytes(b"\xff\xfe\x00{")
    (folder / "bytes.yaml").write_bytes(b"\xff\xfe\x00{")
    for place in (".", "images", *(f"yolo{i}/images" for i in ("", 2, 3, 4, 5, 6, 7)), "voc4"):
        (folder / place).mkdir(exist_ok=True)
        Image.new("RGB", (60, 40)).save(folder / place / "a.png")
        for name in ("page.png", "empty.png"):
            (folder / place / name).write_bytes((folder / name).read_bytes())
    whole = (folder / "a.png").read_bytes()
    for place in (".", "images"):
        (folder / place / "cut.png").write_bytes(whole[:-40])
    (folder / "broken_images").mkdir()
    (folder / "broken_images" / "page.png").write_text("<html>")
    for name in ("empty", "no_config"):
        (folder / name).mkdir()
    Image.new("I;16", (60, 40)).save(folder / "deep.png")
    header = b"BM" + struct.pack(
        "<IHHIIiiHHIIiiII", 54, 0, 0, 54, 40, 99999, 99999, 1, 24, *[0] * 6
    )
    (folder / "bomb.bmp").write_bytes(header)
    write_weights(folder)


def write_weights(folder):
    """A run of a narrow detector, and checkpoints that do not fit it."""
    own = ["MODEL.DEVICE", "cpu", "MODEL.ROI_HEADS.NUM_CLASSES", 3]
    own += ["DATASETS.CLASSES", ["cat", "dog", "ox"], "DATASETS.CATEGORY_IDS", [1, 2, 3]]
    own += ["DATASETS.TRAIN", (), "DATASETS.TEST", ()]
    cfg = load_config(QUICK, [*KEYS, *own])
    (folder / "run").mkdir()
    (folder / "run" / "config.yaml").write_text(cfg.dump())
    weights = build_model(cfg).state_dict()
    backbone = {k: v for k, v in weights.items() if k.startswith("backbone.bottom_up")}
    torch.save({"model": weights}, folder / "run" / "model_final.pth")
    torch.save({"model": backbone}, folder / "backbone.pth")
    torch.save({"model": {"a.weight": torch.ones(3)}}, folder / "foreign.pth")
    torch.save({"epoch": 3}, folder / "no_tensors.pth")
    torch.save([torch.ones(3)], folder / "list.pth")
    torch.save({"model": weights, "more": Code()}, folder / "code.pth")
    plain = {"conv1.weight": torch.ones(64, 3, 7, 7), "layer1.0.conv1.weight": torch.ones(1)}
    torch.save(plain, folder / "resnet.pth")
    whole = (folder / "run" / "model_final.pth").read_bytes()
    (folder / "cut.pth").write_bytes(whole[: len(whole) // 2])
    (folder / "weights.pkl").write_bytes(b"\x80\x02}q\x00.")


def keys(*pairs):
    return ["train", QUICK, *DATA, "--output", "out", "--", *KEYS, *pairs]


def net(*words):
    return ["train_net.py", "--config-file", QUICK, *words]


def check(name, *more):
    return ["check-data", name, "images", *more]


def predict(*words):
    return ["predict", "run", *words, "--device", "cpu", "--output", "predicted", "--overwrite"]


def trained_on(name, images="images"):
    return ["train", QUICK, "--data", name, images, "--output", "out", *KEYS]


def importing(format, source):
    return ["import-data", format, source, "--output", "imported"]


# Kind, arguments (of resnest-d2 unless they begin with train_net.py), what the sentence names.
CASES = [
    ("key", keys("MODEL.RESNETS.RADIXX", "2"), "MODEL.RESNETS.RADIXX"),
    ("key", keys("SOLVER.LEARNING_RATE", "2"), "SOLVER.LEARNING_RATE"),
    ("key", keys("FOO.BAR", "2"), "FOO"),
    ("key", keys("SOLVER.MAX_ITER"), "SOLVER.MAX_ITER"),
    ("key", ["eval", "run", "MODEL.MASK_ONN", "True"], "MODEL.MASK_ONN"),
    ("key", net("MODEL.RESNETS.RADIXX", "2"), "MODEL.RESNETS.RADIXX"),
    ("key", net("SOLVER.MAX_ITER"), "SOLVER.MAX_ITER"),
    ("key", ["train", "key.yaml"], "MASK_ONN"),
    ("key", ["train_net.py", "--config-file", "key.yaml"], "MASK_ONN"),
    ("key", ["predict", "key.yaml", "a.png"], "MASK_ONN"),
    ("key", ["export", "key.yaml", "--output", "a.onnx"], "MASK_ONN"),
    ("key", check("good.json", "--config", "key.yaml"), "MASK_ONN"),
    ("key", ["convert", "backbone.pth", "b.pth", "--config", "key.yaml"], "MASK_ONN"),
    ("type", keys("SOLVER.MAX_ITER", "many"), "many"),
    ("type", keys("MODEL.RESNETS.DEPTH", "fifty"), "fifty"),
    ("type", keys("SOLVER.STEPS", "3"), "SOLVER.STEPS"),
    ("type", keys("SOLVER.BASE_LR", "[1]"), "SOLVER.BASE_LR"),
    ("type", keys("DATASETS.COCO", "3"), "DATASETS.COCO"),
    ("type", net("SOLVER.MAX_ITER", "many"), "many"),
    ("type", net("DATASETS.COCO", "['a']"), "DATASETS.COCO"),
    ("type", net("DATASETS.COCO", "[['a', 1, 2]]"), "DATASETS.COCO"),
    ("type", ["train", "type.yaml"], "type.yaml"),
    ("type", ["eval", "run", "MODEL.MASK_ON", "maybe"], "maybe"),
    ("value", keys("MODEL.RESNETS.RADIX", "-1"), "MODEL.RESNETS.RADIX"),
    ("value", keys("MODEL.RESNETS.DEPTH", "13"), "MODEL.RESNETS.DEPTH"),
    ("value", keys("MODEL.RESNETS.NUM_GROUPS", "0"), "MODEL.RESNETS.NUM_GROUPS"),
    ("value", keys("MODEL.RESNETS.RES5_DILATION", "3"), "MODEL.RESNETS.RES5_DILATION"),
    ("value", keys("MODEL.BACKBONE.FREEZE_AT", "9"), "MODEL.BACKBONE.FREEZE_AT"),
    ("value", keys("MODEL.RESNETS.STRIDE_IN_1X1", "True"), "STRIDE_IN_1X1"),
    ("value", keys("SOLVER.EPOCHS", "-1"), "SOLVER.EPOCHS"),
    ("value", keys("MODEL.EMA.ENABLED", "True", "MODEL.EMA.DECAY", "2.0"), "MODEL.EMA.DECAY"),
    ("value", keys("SOLVER.EARLY_STOPPING.ENABLED", "True"), "SOLVER.EARLY_STOPPING"),
    ("value", keys("TEST.VALIDATION_LOSS", "True"), "TEST.VALIDATION_LOSS"),
    ("value", keys("INPUT.RESIZE", "nearest"), "INPUT.RESIZE"),
    ("value", keys("MODEL.ROI_HEADS.NUM_CLASSES", "7"), "MODEL.ROI_HEADS.NUM_CLASSES"),
    ("value", net("DATASETS.TRAIN", "()", "OUTPUT_DIR", "out"), "DATASETS.TRAIN"),
    ("value", ["eval", "run", "DATASETS.TEST", "()"], "DATASETS.TEST"),
    ("value", predict("a.png", "--score-threshold", "1.5"), "1.5"),
    ("value", ["export", "run", "--output", "a.onnx", "--score-threshold", "-1"], "-1"),
    ("value", net("OUTPUT_DIR", "''"), "OUTPUT_DIR"),
    ("name", keys("DATASETS.TRAIN", "('gone',)"), "DATASETS.TRAIN"),
    ("name", net("DATASETS.TRAIN", "('gone',)"), "gone"),
    ("name", net("DATASETS.TEST", "('gone',)"), "gone"),
    ("name", ["train", "faster_rcn_s50"], "faster_rcn_s50"),
    ("name", ["train", "imagenet/resnest50"], "imagenet/resnest50"),
    ("name", ["train", "gone.yaml"], "gone.yaml"),
    ("name", ["train_net.py", "--config-file", "gone.yaml"], "gone.yaml"),
    ("name", ["train_net.py"], "--config-file"),
    ("name", ["eval", "faster_rcn_s50"], "faster_rcn_s50"),
    ("name", ["eval", "gone.yaml"], "gone.yaml"),
    ("name", ["predict", "mask_rcnn_s51", "a.png"], "mask_rcnn_s51"),
    ("name", ["export", "mask_rcnn_s51", "--output", "a.onnx"], "mask_rcnn_s51"),
    ("name", check("good.json", "--config", "mask_rcnn_s51"), "mask_rcnn_s51"),
    ("name", ["convert", "backbone.pth", "b.pth", "--config", "gone.yaml"], "gone.yaml"),
    ("name", ["list", "models", "nowhere"], "nowhere"),
    ("name", ["list", "configs", "quick", "nowhere"], "nowhere"),
    ("name", ["predict", "run", "a.png", "--device", "tpu9"], "tpu9"),
    ("file", ["train", "empty"], "empty"),
    ("file", ["eval", "empty"], "empty"),
    ("file", ["eval", "unevaluated"], "unevaluated"),
    ("file", ["compare", "run", "empty"], "run has no results.json"),
    ("file", trained_on("gone.json"), "gone.json"),
    ("file", trained_on("good.json", "nowhere"), "nowhere"),
    ("file", trained_on("good.json", "a.png"), "a.png"),
    ("file", trained_on("images"), "images"),
    ("file", keys("OUTPUT_DIR", "a.png")[:2] + ["--output", "a.png", *DATA], "a.png"),
    ("file", keys()[:2] + ["--output", "a.png/out", *DATA, *KEYS], "a.png/out"),
    ("value", predict("a.png", "--slice", "3"), "slices is 3"),
    ("value", predict("a.png", "--slice", "64", "--overlap", "1"), "overlap of slices is 1"),
    ("value", predict("a.png", "--max-det", "0"), "detections is 0"),
    ("value", predict("a.png", "--every", "0"), "every is 0"),
    ("name", predict("a.png", "--classes", "cat,zebra"), "zebra"),
    ("value", predict("a.png", "--track"), "track"),  # or that trackers is missing
    ("file", predict("*.gone"), "No file matches *.gone"),
    ("file", predict("*.txt"), "image"),
    ("name", predict("ftp://127.0.0.1/a.png"), "'ftp'; choose from http"),
    ("name", predict("http://127.0.0.1:port/a.png"), "no http or https address"),
    ("file", predict("http://127.0.0.1:1/a.png"), "http://127.0.0.1:1/a.png cannot be fetched"),
    ("file", predict("99"), "camera 99"),
    ("file", predict("."), "inside of the source ."),
    ("value", predict("a.png", "--ray", "local", "--save-csv"), "--ray only writes shards"),
    ("file", predict("gone.png"), "gone.png"),
    ("file", predict("empty"), "empty"),
    ("file", ["predict", "run", "a.png", "--output", "text.txt"], "text.txt"),
    ("file", ["predict", "run", "images/a.png", "--output", "images"], "--output"),
    ("file", ["predict", "empty", "a.png"], "empty"),
    ("file", ["check-data", "gone.json", "images"], "gone.json"),
    ("file", ["check-data", "good.json", "nowhere"], "nowhere"),
    ("file", ["check-data", "good.json"], "good.json"),
    ("file", ["check-data", "images"], "images"),
    ("file", check("good.json", "--fix", "good.json"), "good.json"),
    ("file", check("good.json", "--fix", "text.json"), "text.json"),
    ("file", check("good.json", "--fix", "a.png/fixed.json"), "a.png"),
    ("file", ["convert", "gone.pth", "b.pth"], "gone.pth"),
    ("file", ["convert", "images", "b.pth"], "images"),
    ("file", ["convert", "backbone.pth", "a.png/b.pth"], "a.png"),
    ("file", ["export", "run", "--output", "a.png/b.onnx"], "a.png"),
    ("file", ["export", "run", "--output", "b.pt"], "b.pt"),
    ("file", ["export", "empty", "--output", "b.onnx"], "empty"),
    ("file", importing("yolo", "gone"), "gone"),
    ("file", importing("yolo", "empty"), "data.yaml"),
    ("file", importing("yolo", "yolo2"), "nowhere"),
    ("file", importing("yolo", "yolo6"), "data.yaml"),
    ("file", importing("voc", "empty"), "empty"),
    ("file", importing("labelme", "empty"), "empty"),
    ("file", importing("labelme", "labelme3"), "gone.png"),
    ("file", importing("yolo", "yolo7")[:3] + ["--output", "a.png/x"], "7"),
    *(
        ("JSON", command(name), culprit)
        for command in (trained_on, check)
        for name, culprit in (
            ("text.json", "text.json"),
            ("cut.json", "cut.json"),
            ("list.json", "list.json"),
            ("null.json", "null.json"),
            ("empty.json", "empty.json"),
            ("deep.json", "deep.json"),
            ("bytes.json", "bytes.json"),
            ("no_images.json", "no_images.json"),
            ("strings.json", "strings.json"),
            ("category.json", "category_id 99"),
            ("other_image.json", "image_id 42"),
            ("short_box.json", "annotation id 1"),
            ("text_box.json", "annotation id 1"),
            ("negative.json", "annotation id 1"),
            ("iscrowd.json", "annotation id 1"),
            ("twice.json", "annotation id 1"),
            ("no_id.json", "has no id"),
            ("no_classes.json", "no_classes.json"),
            ("gone_image.json", "gone.png"),
        )
    ),
    *(  # a detector without masks trains on the boxes
        ("JSON", command, "annotation id 1")
        for name in ("rle.json", "polygon.json")
        for command in (check(name), [*trained_on(name), "MODEL.MASK_ON", "True"])
    ),
    ("JSON", trained_on("no_annotations.json"), "no_annotations.json"),
    ("JSON", [*importing("yolo", "yolo7"), "--categories", "text.json"], "txt"),
    ("JSON", ["compare", "wrongly", "wrongly"], "results.json"),
    ("JSON", ["compare", "listed", "listed"], "results.json"),
    ("JSON", importing("labelme", "labelme"), "a.json"),
    ("JSON", importing("labelme", "labelme2"), "a.json"),
    ("JSON", importing("labelme", "labelme4"), "a.json"),
    *(
        ("YAML", command, name)
        for name in ("tab.yaml", "colon.yaml", "open.yaml", "tag.yaml")
        for command in (
            ["train", name],
            ["train_net.py", "--config-file", name],
            ["predict", name, "a.png"],
        )
    ),
    ("kind", trained_on("voc4"), "import-data voc voc4"),
    ("kind", trained_on("yolo/data.yaml"), "import-data yolo yolo/data.yaml"),
    ("kind", ["eval", "run", "--data", "yolo/labels/a.txt", "images"], "import-data yolo"),
    ("kind", ["check-data", "voc4", "images"], "import-data voc voc4"),
    ("kind", ["check-data", "yolo/data.yaml", "yolo/images"], "import-data yolo"),
    ("kind", importing("yolo", "train.json"), "resnest-d2 split train.json"),
    ("YAML", importing("yolo", "yolo3"), "data.yaml"),
    ("YAML", importing("yolo", "yolo4"), "data.yaml"),
    ("YAML", importing("yolo", "yolo5"), "data.yaml"),
    ("YAML", importing("yolo", "bytes.yaml"), "bytes.yaml"),
    ("XML", importing("voc", "voc"), "a.xml"),
    ("XML", importing("voc", "voc2"), "a.xml"),
    ("XML", importing("voc", "voc3"), "a.xml"),
    ("label", importing("yolo", "yolo"), "a.txt"),
    ("label", importing("yolo", "yolo7"), "a.txt"),
    *(
        ("weights", command(name), name)
        for name in (
            "page.pth",
            "empty.pth",
            "text.pth",
            "cut.pth",
            "code.pth",
            "no_tensors.pth",
            "list.pth",
            "foreign.pth",
            "weights.pkl",
            "bad.safetensors",
            "gone.pth",
        )
        for command in (
            lambda name: keys("MODEL.WEIGHTS", name),
            lambda name: predict("a.png", "--weights", name),
            lambda name: ["convert", name, "b.pth"],
        )
    ),
    ("weights", ["eval", "run", "--weights", "gone.pth", *DATA], "gone.pth"),
    ("weights", ["eval", "run", "--weights", "backbone.pth", *DATA], "backbone.pth"),
    ("weights", predict("a.png", "--weights", "backbone.pth"), "backbone.pth"),
    ("weights", ["convert", "resnet.pth", "b.pth"], "resnet.pth"),
    ("weights", ["export", "run", "--weights", "cut.pth", "--output", "b.onnx"], "cut.pth"),
    ("weights", ["predict", QUICK, "a.png"], "no weights"),
    ("weights", ["eval", QUICK, *DATA], "MODEL.WEIGHTS"),
    ("image", predict("page.png"), "page.png"),
    ("image", predict("empty.png"), "empty.png"),
    ("image", predict("cut.png"), "cut.png"),
    ("image", predict("deep.png"), "deep.png"),
    ("image", predict("bomb.bmp"), "bomb.bmp"),
    ("image", predict("text.txt"), "text.txt"),
    ("image", predict("video.mp4"), "video.mp4"),
    ("image", predict("broken_images"), "page.png"),
    ("image", check("page_image.json"), "page.png"),
    ("image", check("cut_image.json"), "cut.png"),
    ("image", check("size.json"), "a.png"),
    ("image", trained_on("page_image.json"), "page.png"),
    ("image", trained_on("cut_image.json"), "cut.png"),
    ("image", trained_on("size.json"), "a.png"),
    ("option", ["train", QUICK, "--val", "good.json"], "--val"),
    ("file", ["train", QUICK, "--data", "nowhere.json"], "nowhere.json"),
    ("file", ["eval", "run", "--data", "nowhere.json"], "nowhere.json"),
    ("option", ["train", QUICK, "--val-images", "images"], "--val-images"),
    ("option", [*keys()[:2], "--output", "out", "OUTPUT_DIR", "b"], "OUTPUT_DIR"),
    ("option", [*keys()[:2], *DATA, "DATASETS.TRAIN", "('a',)"], "--data"),
    ("option", ["train", "run"], "--resume"),
    ("option", ["train", "run/model_final.pth", "--resume"], "--resume"),
    ("option", [*check("good.json"), "good.json"], "good.json"),
    ("option", check("good.json", "--fix", "a.json", "--fix", "b.json"), "2"),
]
USAGE = [  # wrong usage of the options themselves: exit code 2, as of every command line
    (["trian"], "trian"),
    (["train"], "CONFIG"),
    (["train", QUICK, "--num-gpus", "two"], "--num-gpus"),
    (["train", QUICK, "--data", "--output", "out"], "--data"),
    (["train", QUICK, "--gpus", "2"], "--gpus"),
    (["eval"], "RUN_OR_CONFIG"),
    (["predict", "run"], "SOURCE"),
    (["predict", "run", "a.png", "--backend", "fast"], "fast"),
    (["predict", "run", "a.png", "--score-threshold", "high"], "--score-threshold"),
    (["list", "dogs"], "dogs"),
    (["convert", "a.pth"], "TARGET"),
    (["convert", "a.pth", "b.pth", "--to", "keras"], "keras"),
    (["export", "run"], "--output"),
    (["export", "run", "--output", "a.onnx", "--format", "tflite"], "tflite"),
    (["import-data", "coco", "data", "--output", "a.json"], "coco"),
    (["check-data"], "JSON FOLDER"),
    (["check-data", "a.json", "--show", "-3"], "--show"),
    (["doctor", "please"], "please"),
    (["train_net.py", "--num-gpus", "two"], "--num-gpus"),
]
ENVIRONMENT = [  # variables, arguments, what the sentence names
    ({"RESNEST_D2_WEIGHTS": "nowhere"}, ["doctor"], "nowhere"),
    ({"RESNEST_D2_WEIGHTS": "a.png"}, ["doctor"], "a.png"),
    ({"FVCORE_CACHE": "a.png"}, ["predict", "faster_rcnn_s50", "a.png"], "a.png"),
    ({"FVCORE_CACHE": "a.png"}, ["eval", "faster_rcnn_s50", *DATA], "a.png"),
    ({"RESNEST_D2_WEIGHTS": "broken_weights"}, ["predict", "faster_rcnn_s50", "a.png"], "corrupt"),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("mistakes")
    write_files(folder)
    return folder


@pytest.fixture
def call(folder, resnest_d2, monkeypatch, capfd):
    """A function that runs resnest-d2 or train_net.py in that folder; gives code and stderr."""
    import train_net

    monkeypatch.chdir(folder)
    for module in ("detectron2.engine.defaults", "resnest_d2.engine.setup"):
        monkeypatch.setattr(import_module(module), "collect_env_info", lambda: "")  # a second each
    yield lambda words: _call(words, train_net, resnest_d2, capfd)
    small.forget_logs()
    forget_data()


def _call(words, train_net, resnest_d2, capfd):
    if words[:1] != ["train_net.py"]:
        done = resnest_d2(*words)
        captured = capfd.readouterr()
        assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
        return done.exit_code, done.stdout + captured.out, done.stderr + captured.err
    try:
        code = train_net.main(words[1:])
    except SystemExit as stopped:
        code = stopped.code
    return code, *capfd.readouterr()


def forget_data():
    from detectron2.data import DatasetCatalog, MetadataCatalog

    for name in list(DatasetCatalog):
        if name.startswith("mistakes"):
            DatasetCatalog.remove(name)
            with contextlib.suppress(KeyError):
                MetadataCatalog.remove(name)


def ids(cases):
    return [f"{kind}: {' '.join(map(str, words))[:60]}" for kind, words, _ in cases]


def assert_one_sentence(words, culprit, call):
    code, out, err = call(words)
    assert code == 1, (code, err)
    assert "Traceback" not in out + err and "internal error" not in err, err
    lines = [line for line in err.splitlines() if line.startswith(("resnest-d2: ", "train_net.py"))]
    if words[0] == "check-data" and not lines:  # findings are a table
        assert culprit in out
    else:
        assert len(lines) == 1 and culprit in err[err.index(lines[0]) :], err
        assert len(err[err.index(lines[0]) :]) < 1500


@pytest.mark.parametrize(("kind", "words", "culprit"), CASES, ids=ids(CASES))
def test_a_mistake_is_a_sentence(kind, words, culprit, call):
    assert_one_sentence(words, culprit, call)


@pytest.mark.parametrize(("words", "culprit"), USAGE, ids=[" ".join(w)[:50] for w, _ in USAGE])
def test_wrong_usage_names_the_word(words, culprit, call):
    code, out, err = call(words)
    assert code == 2 and culprit.lower() in err.lower() and "Traceback" not in err, err


@pytest.mark.parametrize(("variables", "words", "culprit"), ENVIRONMENT)
def test_a_wrong_variable_is_a_sentence(variables, words, culprit, call, folder, monkeypatch):
    for name, value in variables.items():
        monkeypatch.setenv(name, str(folder / value))
    if "broken_weights" in variables.values():
        (folder / "broken_weights").mkdir(exist_ok=True)
        name = find_model("faster_rcnn_s50").origin.files[0]
        (folder / "broken_weights" / name).write_text("no weights")
    assert_one_sentence(words, culprit, call)


def test_there_are_enough_cases():
    kinds = {kind for kind, *_ in CASES}
    assert kinds > {"key", "type", "value", "name", "file", "JSON", "YAML", "weights", "image"}
    assert len(CASES) + len(USAGE) + len(ENVIRONMENT) >= 120


# What a row of the checks of a config refuses, before anything is built.
CONFIG_CASES = [
    ("empty config", {"config": ""}, [], "config.yaml"),
    ("a list", {"config": "- 1\n- 2\n"}, [], "config.yaml"),
    ("a text", {"config": "hello"}, [], "config.yaml"),
    ("a base that is gone", {"config": "_BASE_: gone.yaml\n"}, [], "gone.yaml"),
    ("a section that is a number", {"config": "MODEL: 3\n"}, [], "MODEL"),
    ("bytes", {"config": b"\xff\xfe\x00{"}, [], "config.yaml"),
    ("meta architecture", {}, ["MODEL.META_ARCHITECTURE", "YOLO"], "MODEL.META_ARCHITECTURE"),
    ("backbone", {}, ["MODEL.BACKBONE.NAME", "build_none"], "MODEL.BACKBONE.NAME"),
    ("ROI heads", {}, ["MODEL.ROI_HEADS.NAME", "NoHeads"], "MODEL.ROI_HEADS.NAME"),
    ("box head", {}, ["MODEL.ROI_BOX_HEAD.NAME", "NoHead"], "MODEL.ROI_BOX_HEAD.NAME"),
    ("norm", {}, ["MODEL.RESNETS.NORM", "XX"], "MODEL.RESNETS.NORM"),
    ("FPN norm", {}, ["MODEL.FPN.NORM", "XX"], "MODEL.FPN.NORM"),
    ("sampling", {}, ["INPUT.MIN_SIZE_TRAIN_SAMPLING", "all"], "MIN_SIZE_TRAIN_SAMPLING"),
    ("train sampler", {}, ["DATALOADER.SAMPLER_TRAIN", "None"], "DATALOADER.SAMPLER_TRAIN"),
    ("scheduler", {}, ["SOLVER.LR_SCHEDULER_NAME", "None"], "SOLVER.LR_SCHEDULER_NAME"),
    ("device", {}, ["MODEL.DEVICE", "tpu9"], "MODEL.DEVICE"),
    ("input format", {}, ["INPUT.FORMAT", "CMYKX"], "INPUT.FORMAT"),
    ("size", {}, ["INPUT.MIN_SIZE_TRAIN", "(-5,)"], "INPUT.MIN_SIZE_TRAIN"),
    ("flip", {}, ["INPUT.RANDOM_FLIP", "diagonal"], "INPUT.RANDOM_FLIP"),
    ("iterations", {}, ["SOLVER.MAX_ITER", "0"], "SOLVER.MAX_ITER"),
    ("batch", {}, ["SOLVER.IMS_PER_BATCH", "0"], "SOLVER.IMS_PER_BATCH"),
    ("period", {}, ["SOLVER.CHECKPOINT_PERIOD", "0"], "SOLVER.CHECKPOINT_PERIOD"),
    ("anchors", {}, ["MODEL.ANCHOR_GENERATOR.SIZES", "[[8], [16]]"], "ANCHOR_GENERATOR.SIZES"),
    ("features", {}, ["MODEL.RPN.IN_FEATURES", "['p9']"], "MODEL.RPN.IN_FEATURES"),
    ("backend", {}, ["MODEL.DEPLOY.ENABLED", "True", "MODEL.DEPLOY.BACKEND", "x"], "BACKEND"),
    ("processes", {}, ["--num-gpus", "0"], "--num-gpus"),
    ("processes below 0", {}, ["--num-gpus", "-1"], "--num-gpus"),
    ("RetinaNet on FPN", {}, ["MODEL.META_ARCHITECTURE", "RetinaNet"], "MODEL.BACKBONE.NAME"),
]


@pytest.mark.parametrize(
    ("files", "words", "culprit"),
    [case[1:] for case in CONFIG_CASES],
    ids=[case[0] for case in CONFIG_CASES],
)
def test_a_config_that_cannot_be_is_refused(files, words, culprit, call, folder):
    config = QUICK
    if files:
        config, content = "config.yaml", files["config"]
        (folder / config).write_bytes(content if isinstance(content, bytes) else content.encode())
    flags = [w for w in words if w == "--num-gpus" or words[:1] == ["--num-gpus"]]
    pairs = [] if flags else words
    own = [] if files else [*KEYS, *pairs]
    data = ["DATASETS.COCO", "[['mistakes', 'train.json', 'images']]"]
    data += ["DATASETS.TRAIN", "('mistakes',)", "DATASETS.TEST", "()"]
    out = [] if "OUTPUT_DIR" in pairs else ["OUTPUT_DIR", "out"]
    words = ["train_net.py", "--config-file", config, *flags, *data, *out, *own]
    assert_one_sentence(words, culprit, call)
