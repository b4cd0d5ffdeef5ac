"""Options whose values are missing or may be left out, and names without their suffix."""

import ast
import json

import pytest
from PIL import Image
from small import FASTER

from resnest_d2.errors import UserError
from resnest_d2.model_zoo import find_detector


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Annotations of one image each: beside images/, beside their image, and without an image."""
    monkeypatch.chdir(tmp_path)
    for name, image in (
        ("cells/train.json", "cells/images/a.png"),
        ("cells/val.json", "cells/images/b.png"),
        ("export/_annotations.json", "export/c.png"),
        ("lost/train.json", None),
    ):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        names = [image.rpartition("/")[2]] if image else ["d.png"]
        if image:
            (tmp_path / image).parent.mkdir(exist_ok=True)
            Image.new("RGB", (8, 8)).save(tmp_path / image)
        images = [{"id": 1, "file_name": n, "width": 8, "height": 8} for n in names]
        path.write_text(json.dumps({"images": images, "annotations": [], "categories": []}))
    return tmp_path


@pytest.fixture
def datasets(folder, resnest_d2, monkeypatch):
    """The pairs and the files that a training is given by its options, or its error."""
    launched = []
    monkeypatch.setattr("resnest_d2.engine.launch", launched.append)

    def run(*arguments):
        done = resnest_d2("train", *arguments)
        if done.exit_code:
            return done.stderr
        opts = launched[-1].opts
        entries = ast.literal_eval(opts[opts.index("DATASETS.COCO") + 1])
        return opts, [p.replace(f"{folder}/", "") for _, *pair in entries for p in pair]

    return run


@pytest.mark.parametrize(
    ("arguments", "images"),
    [
        (["--data", "cells/train.json", "cells/images"], ["cells/images"]),
        (["--data", "cells/train.json"], ["cells/images"]),
        (["--data=cells/train.json"], ["cells/images"]),
        (["--data=cells/train.json", "cells"], ["cells"]),
        (["--data", "export/_annotations.json"], ["export"]),
        (["--data", "cells/train.json", "typed_wrong"], ["typed_wrong"]),
        (["MODEL.MASK_ON", "True", "--data", "cells/train.json"], ["cells/images"]),
        (["--data", "cells/train.json", "MODEL.MASK_ON", "True"], ["cells/images"]),
        (["--data", "cells/train.json", "--", "MODEL.MASK_ON", "True"], ["cells/images"]),
        (["--data", "cells/train.json", "--val", "cells/val.json"], ["cells/images"] * 2),
        (
            ["--data", "export/_annotations.json", "--val", "cells/val.json"],
            ["export", "cells/images"],
        ),
        (
            ["--data", "cells/train.json", "--val", "export/_annotations.json", "export"],
            ["cells/images", "export"],
        ),
        (
            ["--data", "cells/train.json", "--val", "cells/val.json", "--val-images", "export"],
            ["cells/images", "export"],
        ),
    ],
)
def test_the_folder_of_images_may_be_left_out(arguments, images, datasets):
    opts, paths = datasets(FASTER, *arguments)
    assert paths[1::2] == images
    assert ("MODEL.MASK_ON" in opts) == ("MODEL.MASK_ON" in arguments)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--data", "lost/train.json"], "The images of lost/train.json are not in"),
        (["--data", "--output", "o"], "--data has no value: the option --output follows it."),
        (["--output", "--dry-run"], "--output has no value: the option --dry-run follows it."),
        (["--epochs", "--lr", "1"], "--epochs has no value: the option --lr follows it."),
        (["--data", "cells/train.json", "a", "--val-images", "b"], "without --val"),
        (
            ["--data", "cells/train.json", "--val", "cells/val.json", "a", "--val-images", "b"],
            "--val has the folder a, and --val-images another",
        ),
    ],
)
def test_mistakes_are_seen(arguments, message, datasets):
    assert message in " ".join(datasets(FASTER, *arguments).replace("│", "").split())


@pytest.mark.parametrize(
    ("name", "found"),
    [
        (FASTER.removesuffix(".yaml"), FASTER),
        ("faster_rcnn_ResNeSt_14_FPN_quick", FASTER),
        ("faster_rcnn_ResNeSt_14_FPN_quick.yaml", FASTER),
        ("finetune/mask_rcnn_ResNeSt_26_FPN_finetune", "mask_rcnn_ResNeSt_26_FPN_finetune.yaml"),
    ],
)
def test_configs_need_no_suffix(name, found):
    assert find_detector(name).config.endswith(found)


@pytest.mark.parametrize(
    ("name", "close"),
    [
        ("faster_rcnn_ResNeSt_14_FPN_quik", "faster_rcnn_ResNeSt_14_FPN_quick"),
        ("finetune/faster_rcnn_ResNeSt_26_FPN", "finetune/faster_rcnn_ResNeSt_26_FPN_finetune"),
        ("mask_rcnn_s51", "mask_rcnn_s50"),
    ],
)
def test_mistyped_names_have_close_ones(name, close):
    with pytest.raises(UserError, match=rf"no detector, config or run '{name}'; .*{close}"):
        find_detector(name)


@pytest.mark.parametrize("what", ["config", "configs"])
def test_lists_are_found_by_singular_and_plural(what, resnest_d2):
    done = resnest_d2("list", what, "finetune", "mask")
    assert done.exit_code == 0 and "mask_rcnn_ResNeSt_14_FPN_finetune.yaml" in done.stdout
    assert "task" not in done.stdout  # of the models
    assert resnest_d2("list", "confgis").exit_code == 2
