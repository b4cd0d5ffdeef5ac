"""``resnest-d2 export-data``: its sentences."""

from formats import voc


def test_says_what_is_lost(coco_files, tmp_path, resnest_d2):
    def change(data):
        data["annotations"][0]["score"] = 0.5

    words = ["export-data", *coco_files(change), "--format", "voc", "--output", tmp_path / "voc"]
    done = resnest_d2(*words)
    assert done.exit_code == 0, done.stderr
    assert done.stdout.splitlines() == [
        f"{tmp_path}/voc: 2 images, 2 objects",
        "  1 annotations lose the field score.",
        "  2 masks are left out; their boxes are kept.",
    ]
    assert resnest_d2(*words).exit_code == 1
    assert resnest_d2(*words, "--overwrite").exit_code == 0


def test_other_formats_are_told_what_to_do(tmp_path, resnest_d2):
    (source,) = voc(tmp_path / "voc")
    done = resnest_d2("export-data", source, "--format", "yolo", "--output", tmp_path / "out")
    assert done.exit_code == 1 and "resnest-d2 import-data voc" in done.stderr
