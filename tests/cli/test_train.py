"""train and eval: data by options, runs by their folders, what contradicts itself refused."""

import json

import pytest
import small
import torch
import yaml

from resnest_d2 import get_cfg, model_zoo
from resnest_d2.engine import evaluation_request


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Where the data is: cells/."""
    folder = tmp_path_factory.mktemp("work")
    small.write_data(folder / "cells")
    return folder


@pytest.fixture(scope="module")
def run(folder, resnest_d2):
    """A function that runs a command in that folder."""

    def call(*arguments):
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(folder)
            done = resnest_d2(*arguments)
        small.forget_logs()
        return done

    return call


@pytest.fixture(scope="module")
def trained(folder, run):
    """A run of two iterations."""
    data = ["--data", "cells/train.json", "cells/images", "--val", "cells/val.json"]
    done = run("train", small.FASTER, *data, "--output", "out/mine", *small.KEYS)
    assert done.exit_code == 0, done.stderr
    return folder / "out" / "mine"


def test_trains_and_evaluates_on_the_files_named(trained, folder):
    datasets = yaml.safe_load((trained / "config.yaml").read_text())["DATASETS"]
    images = str(folder / "cells" / "images")
    assert datasets["COCO"] == [
        ["cells_train", str(folder / "cells" / "train.json"), images],
        ["cells_val", str(folder / "cells" / "val.json"), images],
    ]
    assert set(json.loads((trained / "results.json").read_text())) == {"cells_val"}
    assert torch.load(trained / "model_final.pth", weights_only=True)["iteration"] == 1


def test_goes_on_with_a_run(trained, run):
    assert "give --resume" in run("train", trained).stderr
    done = run("train", trained, "--resume", "SOLVER.MAX_ITER", 3)
    assert done.exit_code == 0, done.stderr
    assert torch.load(trained / "model_final.pth", weights_only=True)["iteration"] == 2


def test_does_a_run_again_by_its_config(trained, run, folder):
    done = run("train", trained / "config.yaml", "--output", "again")
    assert done.exit_code == 0, done.stderr
    again = json.loads((folder / "again" / "results.json").read_text())
    assert again.keys() == json.loads((trained / "results.json").read_text()).keys()


def test_scores_a_run_beside_it(trained, run):
    before = (trained / "config.yaml").read_text()
    done = run("eval", trained, "MODEL.ROI_HEADS.SCORE_THRESH_TEST", 0.01)
    assert done.exit_code == 0, done.stderr
    config = yaml.safe_load((trained / "eval" / "config.yaml").read_text())
    assert config["MODEL"]["WEIGHTS"] == str(trained / "model_best.pth")
    assert json.loads((trained / "eval" / "results.json").read_text())
    weights = json.loads((trained / "eval" / "weights.json").read_text())
    assert (weights["file"], weights["training"]) == (str(trained / "model_best.pth"), False)
    page = " ".join((trained / "eval" / "report.html").read_text().split())
    assert f"Scores of {weights['file']}, after {weights['trained']} iterations." in page
    assert (trained / "config.yaml").read_text() == before  # what it was trained with


def detections(folder, json_file):
    """Image, class name and score of what a run found."""
    names = {c["id"]: c["name"] for c in json.loads(json_file.read_text())["categories"]}
    (path,) = (folder / "inference").glob("*/coco_instances_results.json")
    found = json.loads(path.read_text())
    return [(d["image_id"], names[d["category_id"]], d["score"]) for d in found]


def test_scores_a_run_on_a_file_with_other_ids(trained, run, folder):
    val = folder / "cells" / "val.json"
    data = json.loads(val.read_text())
    ids = {c["id"]: 20 - c["id"] for c in data["categories"]}
    for entry in data["categories"]:
        entry["id"] = ids[entry["id"]]
    for entry in data["annotations"]:
        entry["category_id"] = ids[entry["category_id"]]
    renumbered = folder / "cells" / "renumbered_val.json"
    data["categories"].append({"id": 1, "name": "wolf"})
    renumbered.write_text(json.dumps(data))
    beside = [small.FASTER, "--weights", trained / "model_best.pth"]  # names: its config.yaml's
    models = {"plain": ([trained], val), "named": ([trained], renumbered)}
    for name, (model, path) in {**models, "beside": (beside, renumbered)}.items():
        more = small.KEYS if model is beside else []
        words = [*model, "--data", path, "cells/images", "--output", name, *more]
        done = run("eval", *words)
        assert done.exit_code == 0, done.stderr
    assert detections(folder / "plain", val) == detections(folder / "named", renumbered) != []
    assert detections(folder / "plain", val) == detections(folder / "beside", renumbered)
    config = yaml.safe_load((folder / "named" / "config.yaml").read_text())["DATASETS"]
    before = yaml.safe_load((trained / "config.yaml").read_text())["DATASETS"]
    assert config["CLASSES"] == before["CLASSES"]
    assert config["CATEGORY_IDS"] == before["CATEGORY_IDS"]
    for name in ("report.html", "log.txt"):
        assert "are left out: wolf." in (folder / "named" / name).read_text()
    data["annotations"].append({**data["annotations"][0], "id": 999, "category_id": 1})
    renumbered.write_text(json.dumps(data))
    done = run(
        "eval", trained, "--data", renumbered, "cells/images", "--output", "named", "--overwrite"
    )
    assert done.exit_code == 1 and "that the detector does not know: wolf (1)." in done.stderr
    for entry in data["categories"]:
        entry["name"] += " of another kind"
    renumbered.write_text(json.dumps(data))
    done = run(
        "eval", trained, "--data", renumbered, "cells/images", "--output", "named", "--overwrite"
    )
    assert done.exit_code == 1 and "has no class of the detector" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("last", ["model_final.pth", None])
def test_scores_a_checkpoint_of_a_run(last, trained, run, monkeypatch, tmp_path):
    seen, folder = [], trained
    monkeypatch.setattr("resnest_d2.engine.launch", seen.append)
    if last is None:  # the run was stopped
        folder, checkpoint = tmp_path, "model_0000001.pth"
        (folder / "config.yaml").write_text((trained / "config.yaml").read_text())
        assert f"{folder} has no checkpoint" in run("eval", folder).stderr
        (folder / checkpoint).touch()
        (folder / "last_checkpoint").write_text(checkpoint)
        last, named = checkpoint, folder
    else:
        named = folder / last
        assert "is a run: give --resume" in run("train", named).stderr
        assert f"give its folder, {folder}" in run("train", named, "--resume").stderr
    assert run("eval", named).exit_code == 0
    assert seen[0].config_file == str(folder / "config.yaml")
    assert seen[0].opts == [
        *("OUTPUT_DIR", repr(str(folder / "eval"))),
        *("MODEL.WEIGHTS", repr(str(folder / last))),
    ]


def test_sets_of_one_name_are_told_apart(monkeypatch, resnest_d2):
    seen = []
    monkeypatch.setattr("resnest_d2.engine.launch", seen.append)
    sets = ["--data", "train/a/b.json", "train/images", "--val", "val/a/b.json", "--output", "2024"]
    assert resnest_d2("train", small.FASTER, *sets).exit_code == 0
    cfg = get_cfg()
    cfg.merge_from_list(seen[0].opts)
    keys = cfg.DATASETS
    assert (keys.TRAIN, keys.TEST) == (("a_b_train",), ("a_b_val",))
    assert [entry[0] for entry in keys.COCO] == ["a_b_train", "a_b_val"]
    assert cfg.OUTPUT_DIR == "2024"


def test_scores_on_other_data(trained, folder, run):
    weights = trained / "model_final.pth"
    data = ["--data", "cells/train.json", "cells/images", "--weights", weights]
    done = run("eval", small.FASTER, *data, "--output", "other", *small.KEYS)
    assert done.exit_code == 0, done.stderr
    assert "cells_train" in (folder / "other" / "results.json").read_text()
    assert yaml.safe_load((folder / "other" / "config.yaml").read_text())["DATASETS"]["TEST"] == [
        "cells_train"
    ]


def test_classes_of_a_checkpoint_on_its_own_are_unknown(trained, folder, run, caplog):
    alone = folder / "alone.pth"
    alone.write_bytes((trained / "model_final.pth").read_bytes())
    data = ["--data", "cells/val.json", "cells/images", "--weights", alone]
    done = run("eval", small.FASTER, *data, "--output", "unnamed", *small.KEYS)
    assert done.exit_code == 0, done.stderr
    assert "The names of the detector's classes are unknown" in caplog.text
    names = ["DATASETS.CLASSES", "['square', 'triangle', 'circle']"]
    done = run("eval", small.FASTER, *data, "--output", "named_by_hand", *small.KEYS, *names)
    assert done.exit_code == 0, done.stderr
    config = yaml.safe_load((folder / "named_by_hand" / "config.yaml").read_text())["DATASETS"]
    assert config["CLASSES"] == ["square", "triangle", "circle"]


def test_a_published_detector_has_the_classes_of_coco():
    config = model_zoo.find_detector("mask_rcnn_s50").config
    keys = evaluation_request._classes(config, (), trained=True)
    assert keys["DATASETS.CLASSES"][::79] == ["person", "toothbrush"]
    assert keys["DATASETS.CATEGORY_IDS"][::79] == [1, 90]


def test_without_val_it_says_what_is_missing(run, folder, caplog):
    data = ["--data", "cells/train.json", "cells/images", "--output", "unscored"]
    done = run("train", small.FASTER, *data, *small.KEYS)
    assert done.exit_code == 0, done.stderr
    assert "there is no evaluation; the result is model_final.pth" in caplog.text
    assert not (folder / "unscored" / "results.json").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train", small.FASTER, "--val", "cells/val.json"], "--val is given without --data"),
        (["train", small.FASTER, "--val-images", "cells"], "--val-images is given without --val"),
        (
            ["train", small.FASTER, "--output", "a", "OUTPUT_DIR", "b"],
            "--output and OUTPUT_DIR both set OUTPUT_DIR",
        ),
        (
            ["train", small.FASTER, "--data", "gone.json", "cells"],
            "gone.json does not exist",
        ),
        (["train", small.FASTER, "MODEL.MASK_ONN", "True"], "MASK_ONN"),
        (["train", "imagenet/resnest50"], "is a backbone, not a detector"),
        (["eval", "cells"], "cells is a folder without config.yaml"),
        (["train", "cells/train.json"], "cells/train.json is neither a config (.yaml, .yml) nor"),
        (["eval", small.FASTER, "DATASETS.TEST", "()"], "DATASETS.TEST is empty"),
        (["eval", small.FASTER], "without a checkpoint"),
    ],
)
def test_mistakes_are_a_sentence(arguments, message, run):
    done = run(*arguments)
    assert done.exit_code == 1 and message in done.stderr
    assert done.stderr.splitlines()[-1].startswith("resnest-d2: ")


def test_compares_two_runs(trained, run, folder):
    for name in ("first", "second"):
        run("eval", trained, "--output", name)
    done = run("compare", "first", "second", "--output", "beside.html")
    assert done.exit_code == 0, done.stderr
    assert "cells_val" in (folder / "beside.html").read_text()
    for more, page, message in (
        ([], "beside.html", "beside.html exists; give another output"),
        (["--overwrite"], "first/results.json", "results.json is an input, which is never"),
    ):
        done = run("compare", "first", "second", "--output", page, *more)
        assert done.exit_code == 1 and message in done.stderr
    assert "results.json exists" in run("eval", trained, "--output", "first").stderr
    assert run("eval").exit_code == run("compare", "first").exit_code == 2


def test_a_published_detector_is_trained_on_from(monkeypatch, resnest_d2):
    seen = []
    monkeypatch.setattr("resnest_d2.engine.launch", seen.append)
    assert resnest_d2("train", "mask_rcnn_s50", "SOLVER.MAX_ITER", 5).exit_code == 0
    assert resnest_d2("train", "mask_rcnn_s50", "--weights", "a.pth").exit_code == 0
    assert resnest_d2("train", small.FASTER).exit_code == 0
    assert all(s.config_file.endswith(".yaml") and not s.eval_only for s in seen)
    assert [s.opts for s in seen] == [
        ["SOLVER.MAX_ITER", "5", "MODEL.WEIGHTS", "'resnest://mask_rcnn_s50'"],
        ["MODEL.WEIGHTS", "'a.pth'"],
        [],
    ]


def test_options_set_their_keys(monkeypatch, resnest_d2, trained):
    seen = []
    monkeypatch.setattr("resnest_d2.engine.launch", seen.append)
    options = "--epochs 24 --batch-size 8 --lr 0.01 --image-size 800 --overwrite".split()
    assert resnest_d2("train", small.FASTER, *options).exit_code == 0
    keys = dict(zip(seen[0].opts[::2], seen[0].opts[1::2], strict=True))
    assert keys == {
        "SOLVER.EPOCHS": "24",
        "SOLVER.IMS_PER_BATCH": "8",
        "SOLVER.BASE_LR": "0.01",
        "INPUT.MIN_SIZE_TRAIN": "(800,)",
        "INPUT.MIN_SIZE_TRAIN_SAMPLING": "'choice'",
        "INPUT.MIN_SIZE_TEST": "800",
        "INPUT.MAX_SIZE_TRAIN": "1333",
        "INPUT.MAX_SIZE_TEST": "1333",
    }
    assert seen[0].overwrite and not seen[0].dry_run
    for given, weights in (
        (str(trained), str(trained / "model_best.pth")),
        ("mask_rcnn_s50", "resnest://mask_rcnn_s50"),
        ("gone.pth", "gone.pth"),
    ):
        assert resnest_d2("train", small.FASTER, "--weights", given).exit_code == 0
        assert seen[-1].opts == ["MODEL.WEIGHTS", repr(weights)]
    done = resnest_d2("train", small.FASTER, "--weights", "mask_rcnn_s5")
    assert done.exit_code == 1 and "mask_rcnn_s50" in done.stderr
    assert resnest_d2("train", small.FASTER, "--anchors", "auto").exit_code == 0
    assert seen[-1].opts == ["MODEL.ANCHOR_GENERATOR.AUTO", "True"]
    done = resnest_d2("train", small.FASTER, "--anchors", "small")
    assert done.exit_code == 1 and "--anchors is 'small'; give auto" in done.stderr
    done = resnest_d2("train", str(trained), "--resume", "--anchors", "auto")
    assert done.exit_code == 1 and "a run keeps its anchors" in done.stderr
    done = resnest_d2("train", small.FASTER, "--epochs", 3, "SOLVER.EPOCHS", 4)
    assert done.exit_code == 1 and "--epochs and SOLVER.EPOCHS both set" in done.stderr


@pytest.mark.parametrize(
    ("pairs", "said"),
    [
        (["SOLVER.BASE_LRR", 1], f"{small.FASTER}: there is no key SOLVER.BASE_LRR ("),
        (["SOLVER.GAMMA", "x"], f"{small.FASTER}: SOLVER.GAMMA is 'x', a string"),
        (["SOLVER.GAMMA"], "Overrides come in pairs KEY VALUE, got ['SOLVER.GAMMA'].\n"),
    ],
)
def test_a_wrong_override_is_named_alone(resnest_d2, pairs, said):
    done = resnest_d2("train", small.FASTER, "--lr", 0.1, "--dry-run", *pairs)
    assert done.exit_code == 1 and said in done.stderr
    assert done.stderr.startswith(("resnest-d2: An override of /", "resnest-d2: Overrides come in"))
    assert "BASE_LR'" not in done.stderr  # what --lr sets


@pytest.mark.parametrize("option", ["--epochs", "--batch-size", "--lr", "--image-size"])
@pytest.mark.parametrize("value", ["0", "-1", "nan", "inf"])
def test_numbers_are_above_zero(monkeypatch, resnest_d2, option, value):
    """SOLVER.EPOCHS 0 is the recipe's length: as an option it would train for hours."""
    monkeypatch.setattr("resnest_d2.engine.launch", lambda args: pytest.fail("trains"))
    done = resnest_d2("train", small.FASTER, option, value)
    integers = option != "--lr" and value in ("nan", "inf")
    said = "should be a valid integer" if integers else f"{option} is {float(value):g}"
    assert done.exit_code != 0 and said in done.stderr.replace("-1.0", "-1").replace("0.0", "0")


def test_a_dry_run_writes_what_would_run_and_trains_nothing(run, folder):
    data = ["--data", "cells/train.json", "cells/images", "--val", "cells/val.json"]
    words = ["train", small.FASTER, *data, "--output", "dry", "--epochs", 20, *small.KEYS[4:]]
    done = run(*words, "--dry-run")
    assert done.exit_code == 0, done.stderr
    assert "set by you" in done.stdout and "4 images" in done.stdout
    assert [path.name for path in (folder / "dry").iterdir()] == ["config.yaml"]
    written = yaml.safe_load((folder / "dry" / "config.yaml").read_text())
    assert (written["SOLVER"]["EPOCHS"], written["SOLVER"]["MAX_ITER"]) == (20, 40)


def test_early_stopping_needs_no_period(run):
    """The schedule has one, although the recipe has none; the user's 0 is refused."""
    data = ["--data", "cells/train.json", "cells/images", "--val", "cells/val.json"]
    words = ["train", small.FASTER, *data, "--output", "early", "--dry-run", *small.KEYS]
    words += ["SOLVER.EARLY_STOPPING.ENABLED", "True"]
    done = run(*words)
    assert done.exit_code == 0, done.stderr
    done = run(*words, "TEST.EVAL_PERIOD", "0")
    assert done.exit_code == 1 and "nothing is evaluated during training" in done.stderr


def test_a_folder_with_a_run_is_not_written_to(run, folder, trained):
    data = ["--data", "cells/train.json", "cells/images"]
    before = (trained / "config.yaml").read_bytes()
    for more in ([], ["--dry-run"]):
        done = run("train", small.FASTER, *data, "--output", str(trained), *more, *small.KEYS)
        assert done.exit_code == 1
        assert (
            "holds a run. Continue it with --resume" in done.stderr and "_2 is free" in done.stderr
        )
    assert (trained / "config.yaml").read_bytes() == before
    done = run("train", str(trained), "--resume", "--overwrite")
    assert done.exit_code == 1 and "--overwrite and --resume exclude each other" in done.stderr
    done = run("train", str(trained), "--resume", "--dry-run")  # it would write config.yaml
    assert done.exit_code == 1 and "--resume and --dry-run exclude each other" in done.stderr
