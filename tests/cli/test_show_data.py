"""``resnest-d2 show-data``: what it draws of runs and configs, and its errors."""

import json

import numpy as np
import pytest
import small
from PIL import Image

KEYS = [*small.KEYS, "SEED", "3", "MODEL.DEVICE", "cpu"]


@pytest.fixture
def data(tmp_path):
    folder = tmp_path / tmp_path.name  # datasets of other tests keep their names
    small.write_data(folder)
    return folder


def test_draws_what_a_config_trains_on(data, tmp_path, resnest_d2):
    words = ["show-data", small.FASTER, "--data", data / "train.json", data / "images"]
    words += [*KEYS, "INPUT.AUG.ROTATION", "90", "--output"]
    pages = []
    for name in ("a", "b"):
        done = resnest_d2(*words, tmp_path / name)
        assert done.exit_code == 0, done.stderr
        assert "Augmentations: RANDOM_FLIP horizontal, AUG.ROTATION 90.0." in done.stdout
        assert f"{tmp_path / name}/train_2.jpg" in done.stdout
        pages.append(np.asarray(Image.open(tmp_path / name / "train_1.jpg")).astype(int))
    assert (pages[0] == pages[1]).all()  # SEED
    assert pages[0].std() > 20
    other = resnest_d2(*words, tmp_path / "c", "SEED", "4", "--batches", "1")
    assert other.exit_code == 0 and not (tmp_path / "c" / "train_2.jpg").exists()
    page = np.asarray(Image.open(tmp_path / "c" / "train_1.jpg"))
    assert page.shape != pages[0].shape or (page != pages[0]).any()


def test_draws_a_run_and_the_images_of_its_evaluation(data, tmp_path, resnest_d2):
    (tmp_path / "run").mkdir()
    words = ["train", small.FASTER, "--data", data / "train.json", data / "images", "--val"]
    words += [data / "val.json", "--output", tmp_path / "run", "--dry-run", *KEYS]
    done = resnest_d2(*words)
    assert done.exit_code == 0, done.stderr
    (tmp_path / "run" / "model_final.pth").write_bytes(b"not read")
    shown = ["show-data", tmp_path / "run", "--split", "val", "--output", tmp_path / "out"]
    done = resnest_d2(*shown, "--batches", "9")
    assert done.exit_code == 0, done.stderr
    assert "Resized only." in done.stdout
    names = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert names == ["val_1.jpg", "val_2.jpg"]  # three images in batches of two
    done = resnest_d2(*shown, "--batches", "9")
    assert done.exit_code == 1 and "val_1.jpg exists; give another output" in done.stderr
    assert resnest_d2(*shown, "--batches", "9", "--overwrite").exit_code == 0


def test_images_without_objects_are_shown(data, tmp_path, resnest_d2):
    content = json.loads((data / "val.json").read_text())
    content["annotations"] = [a for a in content["annotations"] if a["image_id"] == 1]
    (data / "val.json").write_text(json.dumps(content))
    words = ["show-data", small.FASTER, "--data", data / "val.json", data / "images"]
    done = resnest_d2(*words, "--split", "val", "--output", tmp_path / "out", *KEYS)
    assert done.exit_code == 0, done.stderr


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["DATASETS.TRAIN", "()"], "DATASETS.TRAIN is empty; set it, or --data."),
        (["DATASETS.TEST", "()", "--split", "val"], "DATASETS.TEST is empty"),
        (["INPUT.AUG.ROTATION", "-1"], "INPUT.AUG.ROTATION is -1"),
        (["INPUT.AUG.ALBUMENTATIONS", "[['No', {}]]"], "'No', which is no transform"),
    ],
)
def test_mistakes_end_in_a_sentence(words, message, tmp_path, resnest_d2):
    options = ["--output", tmp_path / "out", *words[2:]]
    done = resnest_d2("show-data", *options, "--", small.FASTER, *words[:2])
    assert done.exit_code == 1 and message in done.stderr
    assert not (tmp_path / "out").exists()
