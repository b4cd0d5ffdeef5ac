"""From a file to a config: names, values, bases, and what is no config at all."""

import pytest
import yaml
from detectron2.config import get_cfg as detectron2_cfg
from detectron2.data import DatasetCatalog

from resnest_d2.config import find_config, given_keys, load_config, override
from resnest_d2.errors import MissingFileError, UserError

FASTER = "COCO-Detection/faster_rcnn_ResNeSt_50_FPN_1x.yaml"


@pytest.fixture
def write(tmp_path):
    """A function that writes a file and gives its path."""

    def write(text, name="mine.yaml"):
        (tmp_path / name).write_text(text)
        return str(tmp_path / name)

    return write


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "mine.yaml is empty; a config is a mapping of keys"),
        ("# nothing but this\n", "mine.yaml is empty"),
        ("[1, 2]\n", "mine.yaml contains a list"),
        ("faster_rcnn_s50\n", "mine.yaml contains a str"),
        ("MODEL: 3\n", "MODEL is 3, but it is a group of keys: MODEL.LOAD_PROPOSALS"),
        ("MODEL: {RESNETS: deep}\n", "MODEL.RESNETS is 'deep', but it is a group of keys"),
        ("MODEL: {DEPTH: 50\n", "mine.yaml is not YAML: .*line 2"),
        ("_BASE_: gone.yaml\n", "mine.yaml: its _BASE_ .*gone.yaml does not exist"),
        ("_BASE_: mine.yaml\n", "mine.yaml is its own _BASE_"),
        ("_BASE_: 3\n", "_BASE_ is 3; give the path of a config"),
        ("OUTPUT_DIR: 2024\n", "OUTPUT_DIR is 2024, an integer; it must be a string"),
        ("MODEL: {MASK_ON: 1}\n", "MODEL.MASK_ON is 1, an integer; it must be True or False"),
        ("SOLVER: {STEPS: 3}\n", "SOLVER.STEPS is 3, an integer; it must be a list"),
        ("SOLVER: {MAX_ITER: }\n", "SOLVER.MAX_ITER is None, nothing; it must be an integer"),
        ("SOLVER: {MAX_ITER: 2024-01-02}\n", "SOLVER.MAX_ITER is .*a date; it must be an integer"),
        ("SOLVER: {LR: 0.1}\n", "there is no key SOLVER.LR"),
        ("RADIX: 2\n", r"there is no key RADIX \(close: MODEL.RESNETS.RADIX\)"),
        ("INPUT: {MIN_SIZE: 3}\n", r"INPUT.MIN_SIZE \(close: INPUT.MIN_SIZE_TEST"),
    ],
)
def test_what_is_no_config_ends_in_one_sentence(text, message, write):
    with pytest.raises(UserError, match=message) as error:
        load_config(write(text))
    assert "\n" not in str(error.value)


def test_a_config_of_mmdetection_names_the_way_to_go(write):
    with pytest.raises(UserError, match="Python config, as mmdetection uses.*list configs"):
        load_config(write("model = dict(type='FasterRCNN')\n", "faster_rcnn.py"))


def test_unknown_keys_get_the_closest_names():
    with pytest.raises(UserError, match=r"RADIXX \(close: MODEL.RESNETS.RADIX") as error:
        load_config(FASTER, ["MODEL.RESNETS.RADIXX", 2, "SOLVER.BASE_LRR", 1, "SOLVER.MAXITER", 5])
    assert "SOLVER.BASE_LRR (close: SOLVER.BASE_LR" in str(error.value)
    assert "SOLVER.MAXITER (close: SOLVER.MAX_ITER)" in str(error.value)


def test_values_may_be_written_as_people_write_them(write):
    path = write("SOLVER: {BASE_LR: 1, STEPS: [1, 2]}\nMODEL: {WEIGHTS: }\n")
    cfg = load_config(path, ["OUTPUT_DIR", "2024", "INPUT.MIN_SIZE_TRAIN", "[640, 800]"])
    assert (cfg.SOLVER.BASE_LR, cfg.SOLVER.STEPS, cfg.MODEL.WEIGHTS) == (1.0, (1, 2), "")
    assert isinstance(cfg.SOLVER.BASE_LR, float)
    assert (cfg.OUTPUT_DIR, cfg.INPUT.MIN_SIZE_TRAIN) == ("2024", (640, 800))


def test_later_files_overrule_their_bases(write):
    write("SOLVER: {MAX_ITER: 5, IMS_PER_BATCH: 2}\n", "first.yaml")
    write("SOLVER: {MAX_ITER: 7}\nMODEL: {MASK_ON: True}\n", "second.yaml")
    cfg = load_config(write("_BASE_: [first.yaml, second.yaml]\nMODEL: {MASK_ON: False}\n"))
    assert (cfg.SOLVER.MAX_ITER, cfg.SOLVER.IMS_PER_BATCH, cfg.MODEL.MASK_ON) == (7, 2, False)


def test_keys_that_the_user_set(write):
    write("SOLVER: {MAX_ITER: 5}\n", "base.yaml")
    path = write("_BASE_: base.yaml\nMODEL: {RESNETS: {DEPTH: 50}}\n")
    given = given_keys(path, ["SEED", "3"])
    assert given == {"SOLVER.MAX_ITER", "MODEL.RESNETS.DEPTH", "SEED"}


def test_reading_has_no_side_effect(write, tmp_path):
    before = set(DatasetCatalog.list())
    path = write('DATASETS: {COCO: [["files_mine", "gone.json", "images"]], TRAIN: [files_mine]}\n')
    cfg = load_config(path)
    assert cfg.DATASETS.COCO == [
        ["files_mine", str(tmp_path / "gone.json"), str(tmp_path / "images")]
    ]
    assert set(DatasetCatalog.list()) == before


def test_a_dump_is_read_back_as_it_was(write):
    cfg = load_config(FASTER, ["MODEL.RESNETS.DEPTH", 101])  # the file that runs says 128
    again = load_config(write(cfg.dump()))
    assert yaml.safe_load(again.dump()) == yaml.safe_load(cfg.dump())
    assert cfg.MODEL.RESNETS.STEM_OUT_CHANNELS == 128


def test_stride_in_1x1_that_was_set_beside_avd_is_refused(write):
    text = "MODEL: {BACKBONE: {NAME: build_resnest_fpn_backbone}"
    assert load_config(write(text + "}\n")).MODEL.RESNETS.STRIDE_IN_1X1 is False
    set_ = write(text + ", RESNETS: {STRIDE_IN_1X1: True}}\n")
    with pytest.raises(UserError, match="AVD and STRIDE_IN_1X1 are both True"):
        load_config(set_)
    cfg = load_config(set_, ["MODEL.RESNETS.AVD", "False"])
    assert cfg.MODEL.RESNETS.STRIDE_IN_1X1 is True
    # A dump of another program holds every key, also those that nobody set.
    cfg.MODEL.RESNETS.AVD = True
    assert load_config(write(cfg.dump())).MODEL.RESNETS.STRIDE_IN_1X1 is False


def test_a_plain_resnet_keeps_its_keys(write):
    text = "MODEL: {BACKBONE: {NAME: build_resnet_fpn_backbone}, RESNETS: {DEPTH: 101}}\n"
    keys = load_config(write(text)).MODEL.RESNETS
    assert (keys.STRIDE_IN_1X1, keys.STEM_OUT_CHANNELS) == (True, 64)


@pytest.mark.parametrize("name", ["resnet_fpn", "retinanet_resnet_fpn", "resnet"])
def test_a_config_of_the_authors_fork_is_told_the_backbone(name, write):
    text = f"MODEL: {{BACKBONE: {{NAME: build_{name}_backbone}}, RESNETS: {{RADIX: 2}}}}\n"
    with pytest.raises(UserError, match=f"build_{name.replace('resnet', 'resnest')}_backbone, or"):
        load_config(write(text))
    dump = load_config(write(text.replace("RADIX: 2", "DEPTH: 50"))).dump()
    assert load_config(write(dump)).MODEL.BACKBONE.NAME == f"build_{name}_backbone"


def test_a_config_of_detectron2s_first_version_is_upgraded(write):
    cfg = load_config(write("VERSION: 1\nMODEL: {WEIGHT: a.pth}\n"))
    assert cfg.VERSION == 2 and cfg.MODEL.WEIGHTS == "a.pth"
    with pytest.raises(UserError, match="MODEL.WEIGHTZ"):
        load_config(write("VERSION: 1\nMODEL: {WEIGHTZ: a.pth}\n"))


def test_overriding_a_config_of_detectron2():
    cfg = detectron2_cfg()
    override(cfg, ["SOLVER.MAX_ITER", "12"])
    assert cfg.SOLVER.MAX_ITER == 12
    with pytest.raises(UserError, match="SOLVER.MAX_ITERS .close: SOLVER.MAX_ITER"):
        override(cfg, ["SOLVER.MAX_ITERS", "12"])


def test_a_missing_config_gets_close_names():
    with pytest.raises(MissingFileError, match="faster_rcnn_ResNeSt_50_FPN_1x"):
        find_config("faster_rcnn_ResNest_50.yaml")


@pytest.mark.parametrize("name", ["../../x", "/etc/x", "..", "a\\\\b", "nul", "x" * 201])
def test_a_data_set_is_named_like_a_folder(name, write):
    text = 'DATASETS: {COCO: [["%s", a.json, images]]}\n'
    assert load_config(write(text % "cells v1")).DATASETS.COCO[0][0] == "cells v1"
    with pytest.raises(UserError, match="DATASETS.COCO names a data set .*; choose a name without"):
        load_config(write(text % name))
