"""``resnest-d2 check-data``: whose anchors it takes, and its exit codes."""

import pytest
import small


@pytest.fixture
def files(coco_files):
    """Annotations with a box of no width, and their images."""

    def spoil(data):
        data["annotations"][0]["bbox"][2] = float("nan")

    return coco_files(spoil)


def test_takes_the_anchors_of_whatever_names_a_detector(coco_files, tmp_path, resnest_d2):
    (tmp_path / "config.yaml").write_text("MODEL: {ANCHOR_GENERATOR: {SIZES: [[4]]}}")
    files = coco_files()
    for name in (small.FASTER, "faster_rcnn_s50", tmp_path):
        done = resnest_d2("check-data", *files, "--config", name)
        assert "anchor IoU >= 0.5" in done.stdout, done.stderr
    (tmp_path / "config.yaml").write_text("MODEL: {ANCHORS: [4]}")
    done = resnest_d2("check-data", *files, "--config", tmp_path / "config.yaml")
    assert done.exit_code == 1 and "MODEL.ANCHORS" in done.stderr


def test_strict_fails_on_what_was_fixed(files, tmp_path, resnest_d2):
    fix = ["--fix", tmp_path / "fixed.json"]
    assert resnest_d2("check-data", *files).exit_code == 1
    assert resnest_d2("check-data", *files, *fix).exit_code == 0
    assert resnest_d2("check-data", *files, *fix, "--overwrite", "--strict").exit_code == 1
    assert (tmp_path / "fixed.json").exists()
