import itertools
import logging

import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog

from resnest_d2 import get_cfg, register_datasets
from resnest_d2.config import given_keys, load_config
from resnest_d2.data.coco import is_ours, register_coco
from resnest_d2.data.entries import dataset_entry
from resnest_d2.data.registration import learn_classes
from resnest_d2.errors import UserError

_number = itertools.count()


@pytest.fixture
def config(coco_files, tmp_path):
    """A function that writes a config for a data set, reads it and registers the data set."""

    def load(change=lambda data: None, text="", opts=()):
        coco_files(change)
        name = f"registration_{next(_number)}"
        (tmp_path / "mine.yaml").write_text(
            f'DATASETS:\n  COCO: [["{name}", "train.json", "images"]]\n  TRAIN: ("{name}",)\n{text}'
        )
        return registered(str(tmp_path / "mine.yaml"), opts)

    return load


def registered(name, opts=()):
    cfg = load_config(name, opts)
    register_datasets(cfg, given=given_keys(name, opts))
    return cfg


def learned(name, opts=()):
    cfg = load_config(name, opts)
    learn_classes(cfg, given=given_keys(name, opts))
    return cfg


def rle(data):
    for annotation in data["annotations"]:
        annotation["segmentation"] = {"size": [40, 60], "counts": [100, 50, 2250]}


MASK = "MODEL:\n  MASK_ON: True\n"


def test_paths_are_relative_to_the_config_file(config, tmp_path, monkeypatch):
    monkeypatch.chdir("/")
    cfg = config()
    assert cfg.DATASETS.COCO[0][1:] == [str(tmp_path / "train.json"), str(tmp_path / "images")]
    assert len(DatasetCatalog.get(cfg.DATASETS.TRAIN[0])) == 2


def test_paths_are_relative_to_the_root(coco_files, tmp_path, monkeypatch):
    coco_files()
    monkeypatch.chdir(tmp_path.parent)
    opts = ["DATASETS.ROOT", tmp_path.name, "DATASETS.TRAIN", "('rooted',)"]
    opts += ["DATASETS.COCO", '[["rooted", "train.json", "images"]]', "DATASETS.TEST", "()"]
    cfg = registered("quick_schedules/faster_rcnn_ResNeSt_14_FPN_quick.yaml", opts)
    assert cfg.DATASETS.COCO[0][1] == str(tmp_path / "train.json")
    assert cfg.DATASETS.ROOT == str(tmp_path)


def test_a_path_that_is_nowhere(config, tmp_path, monkeypatch):
    with pytest.raises(FileNotFoundError) as error:
        config(opts=["DATASETS.COCO", '[["x", "gone.json", "images"]]'])
    assert str(tmp_path / "gone.json") in str(error.value)


def test_an_entry_that_is_none(config):
    with pytest.raises(ValueError, match="each entry must be"):
        config(opts=["DATASETS.COCO", '["x", "train.json", "images"]'])


def test_number_of_classes_comes_from_the_file(config):
    assert config().MODEL.ROI_HEADS.NUM_CLASSES == 2
    text = "MODEL:\n  META_ARCHITECTURE: RetinaNet\n"
    assert config(text=text).MODEL.RETINANET.NUM_CLASSES == 2


def test_classes_are_known_without_the_data(config, tmp_path):
    cfg = config()
    assert (cfg.DATASETS.CLASSES, cfg.DATASETS.CATEGORY_IDS) == (["dog", "cat"], [3, 7])
    kept = tmp_path / "kept.yaml"
    kept.write_text(cfg.dump())
    before = learned(str(tmp_path / "mine.yaml"))  # out of the file
    (tmp_path / "train.json").unlink()
    for known in (before, learned(str(kept))):
        assert known.DATASETS.CLASSES == ["dog", "cat"] and known.DATASETS.CATEGORY_IDS == [3, 7]
        assert known.MODEL.ROI_HEADS.NUM_CLASSES == 2
    unknown = ["DATASETS.TRAIN", "('never_registered',)"]
    mine = learned(str(tmp_path / "mine.yaml"), unknown)
    assert mine.DATASETS.CLASSES == mine.DATASETS.CATEGORY_IDS == []
    coco = learned("COCO-Detection/faster_rcnn_ResNeSt_50_FPN_1x.yaml")
    assert coco.DATASETS.CLASSES[0] == "person" and coco.DATASETS.CATEGORY_IDS[-1] == 90


def test_classes_that_disagree_with_the_data(config):
    opts = ["DATASETS.CLASSES", "['cat', 'ox']"]
    with pytest.raises(ValueError, match="DATASETS.CLASSES is .* but .* 2 classes .dog, cat."):
        config(opts=opts)
    with pytest.raises(ValueError, match=r"CATEGORY_IDS is \[1, 2\], but .* ids \[3, 7\]"):
        config(opts=["DATASETS.CATEGORY_IDS", "[1, 2]"])


def test_data_in_another_order_than_the_detectors_classes(config):
    cfg = config(opts=["DATASETS.CLASSES", "['cat', 'dog']"])
    assert cfg.DATASETS.CATEGORY_IDS == [7, 3]
    (name,) = cfg.DATASETS.TRAIN
    assert MetadataCatalog.get(name).thing_classes == ["cat", "dog"]
    assert {a["category_id"] for r in DatasetCatalog.get(name) for a in r["annotations"]} == {0}


def test_a_test_set_is_matched_to_the_training_set_by_name(config, coco_files, tmp_path, caplog):
    def change(data):
        data["categories"] = [{"id": 1, "name": "Cat"}, {"id": 2, "name": "wolf"}]
        del data["annotations"][1]
        data["annotations"][0]["category_id"] = 1

    coco_files(change, name="val")
    name = f"registration_{next(_number)}"
    sets = f'[["{name}", "train.json", "images"], ["{name}_val", "val.json", "images"]]'
    opts = ["DATASETS.COCO", sets, "DATASETS.TRAIN", f"('{name}',)"]
    opts += ["DATASETS.TEST", f"('{name}_val',)"]
    with caplog.at_level(logging.INFO, "resnest_d2"):
        for _ in range(2):
            cfg = config(opts=opts)
    assert (cfg.DATASETS.CLASSES, cfg.DATASETS.CATEGORY_IDS) == (["dog", "cat"], [3, 7])
    records = DatasetCatalog.get(f"{name}_val")  # whose losses are those in validation, too
    assert [[a["category_id"] for a in r["annotations"]] for r in records] == [[1], []]
    assert caplog.text.count("are left out: wolf.") == 1
    assert caplog.text.count("Cat as cat") == caplog.text.count("get no AP: dog.") == 1
    register_again = ["DATASETS.TEST", "()", "DATASETS.TRAIN", f"('{name}_val',)"]
    assert config(opts=[*opts[:2], *register_again]).DATASETS.CLASSES == ["Cat", "wolf"]


def test_a_test_set_without_objects_of_the_classes(config, coco_files, tmp_path):
    def change(data):
        data["categories"].append({"id": 9, "name": "wolf"})
        for annotation in data["annotations"]:
            annotation["category_id"] = 9

    coco_files(change, name="val")
    name = f"registration_{next(_number)}"
    sets = f'[["{name}", "train.json", "images"], ["{name}_val", "val.json", "images"]]'
    opts = ["DATASETS.COCO", sets, "DATASETS.TRAIN", f"('{name}',)"]
    opts += ["DATASETS.TEST", f"('{name}_val',)", "SOLVER.EARLY_STOPPING.ENABLED", "True"]
    with pytest.raises(ValueError, match=r"val.json has objects of classes .*: wolf \(2\)"):
        config(opts=opts)


def test_other_classes_do_not_take_the_ids_of_the_data():
    name, opts = "COCO-InstanceSegmentation/mask_rcnn_ResNeSt_50_FPN_1x.yaml", []
    for classes, number in ((["a", "b", "c"], 0), (coco_classes(name), 80)):
        opts = ["DATASETS.CLASSES", classes]
        cfg = learned(name, opts)
        assert cfg.MODEL.ROI_HEADS.NUM_CLASSES == len(classes)
        assert len(cfg.DATASETS.CATEGORY_IDS) == number


def coco_classes(name):
    return learned(name).DATASETS.CLASSES


def test_a_missing_file_leaves_the_others_to_be_read(config, coco_files, tmp_path, monkeypatch):
    config()
    (tmp_path / "train.json").unlink()
    coco_files(name="val")
    (tmp_path / "train.json").unlink(missing_ok=True)
    monkeypatch.chdir("/")
    sets = '[["gone", "train.json", "images"], ["there", "val.json", "images"]]'
    opts = ["DATASETS.COCO", sets, "DATASETS.TRAIN", "('gone',)", "DATASETS.TEST", "('there',)"]
    cfg = learned(str(tmp_path / "mine.yaml"), opts)
    assert cfg.DATASETS.CLASSES == ["dog", "cat"] and cfg.DATASETS.CATEGORY_IDS == [3, 7]


@pytest.mark.parametrize("number", [80, 3])  # 80 is detectron2's default, here set on purpose
def test_number_of_classes_that_disagrees(number, config):
    text = f"MODEL:\n  ROI_HEADS:\n    NUM_CLASSES: {number}\n"
    with pytest.raises(ValueError, match=rf"NUM_CLASSES is {number}, but .* 2 classes \(dog, cat"):
        config(text=text)
    with pytest.raises(ValueError, match=f"NUM_CLASSES is {number}"):
        config(opts=["MODEL.ROI_HEADS.NUM_CLASSES", number])


def test_number_of_classes_that_agrees(config):
    assert (
        config(text="MODEL:\n  ROI_HEADS:\n    NUM_CLASSES: 2\n").MODEL.ROI_HEADS.NUM_CLASSES == 2
    )


def test_a_config_by_hand(config):
    coco = config().DATASETS
    cfg = get_cfg()
    cfg.DATASETS.COCO, cfg.DATASETS.TRAIN = coco.COCO, coco.TRAIN
    cfg.freeze()
    register_datasets(cfg)
    assert cfg.MODEL.ROI_HEADS.NUM_CLASSES == 2 and cfg.is_frozen()
    register_datasets(cfg)


def test_mask_format_comes_from_the_file(config):
    assert config(text=MASK).INPUT.MASK_FORMAT == "polygon"
    assert config(rle, MASK).INPUT.MASK_FORMAT == "bitmask"
    with pytest.raises(ValueError, match="MASK_FORMAT is 'polygon', but .* has RLE masks"):
        config(rle, MASK, ["INPUT.MASK_FORMAT", "polygon"])


def test_masks_where_there_are_none(config):
    with pytest.raises(ValueError, match="MASK_ON is True, but annotations .* no segmentation"):
        config(lambda d: d["annotations"][0].pop("segmentation"), MASK)


def test_masks_that_cannot_be_evaluated(config, coco_files, tmp_path):
    coco_files(lambda d: d["annotations"][0].pop("segmentation"), name="bare")
    coco_files(lambda d: d["annotations"].clear(), name="empty")
    text = "  TEST: ('{}',)\n" + MASK
    sets = '[["masked", "train.json", "images"], ["{0}_val", "{0}.json", "images"]]'
    for name in ("bare", "empty"):
        opts = ["DATASETS.COCO", sets.format(name), "DATASETS.TRAIN", "('masked',)"]
        if name == "empty":
            config(text=text.format("empty_val"), opts=opts)  # nothing is missing
            continue
        with pytest.raises(ValueError, match="of bare_val have .* boxes only"):
            config(text=text.format("bare_val"), opts=opts)


def test_different_classes(config):
    with pytest.raises(ValueError, match="different classes: 2 classes .* and 3 classes"):
        config(opts=["DATASETS.TEST", "('shapes_val',)"])


def test_nothing_to_train_on(config):
    with pytest.raises(ValueError, match="has no annotations to train on"):
        config(lambda d: d["annotations"].clear())
    with pytest.raises(ValueError, match="has no annotations to train on"):
        config(lambda d: [a.update(bbox=[70, 5, 9, 9]) for a in d["annotations"]])


def test_unknown_name(config):
    with pytest.raises(ValueError, match="No data set is named shapes_vall.*shapes_val"):
        config(opts=["DATASETS.TEST", "('shapes_vall',)"])


def test_reading_a_config_registers_nothing(config, coco_files, tmp_path):
    config()
    name = f"registration_{next(_number)}"
    opts = [
        "DATASETS.COCO",
        f'[["{name}", "train.json", "images"]]',
        "DATASETS.TRAIN",
        f"('{name}',)",
    ]
    cfg = load_config(str(tmp_path / "mine.yaml"), opts)
    assert name not in DatasetCatalog and cfg.DATASETS.CLASSES == []
    assert cfg.MODEL.ROI_HEADS.NUM_CLASSES == 80
    for _ in range(2):
        register_datasets(cfg, given=given_keys(str(tmp_path / "mine.yaml"), opts))
    assert len(DatasetCatalog.get(name)) == 2 and cfg.MODEL.ROI_HEADS.NUM_CLASSES == 2


@pytest.mark.parametrize(
    ("file", "name"),
    [
        ("cells/val.json", "cells_val"),
        ("any/cells_val.json", "cells_val"),
        ("cells/coco_2017_val.json", "cells_coco_2017_val"),
        ("shapes/val.json", "own_shapes_val"),
        ("cells/shapes_val.json", "own_shapes_val"),
        ("coco_2017/val.json", "own_coco_2017_val"),
        ("keypoints/coco_2017_val.json", "own_keypoints_coco_2017_val"),
        ("coco_cells/val.json", "coco_cells_val"),  # no built-in one
    ],
)
def test_a_file_names_its_dataset(file, name, tmp_path):
    assert dataset_entry((file, tmp_path))[0] == name


def test_no_file_gets_a_built_in_datasets_name(tmp_path):
    built_in = [name for name in DatasetCatalog.list() if not is_ours(name)]
    assert {"shapes_train", "coco_2017_val"} <= set(built_in)
    for name in built_in:
        folder, _, split = name.rpartition("_")
        for file in (f"{folder}/{split}.json", f"any/{name}.json"):
            assert dataset_entry((file, tmp_path))[0] not in built_in


def test_a_built_in_datasets_name_is_refused_for_its_own_files():
    shapes = MetadataCatalog.get("shapes_train")
    DatasetCatalog.get("shapes_train")  # draws it
    with pytest.raises(UserError, match="shapes_train is a dataset that is built in"):
        register_coco("shapes_train", shapes.json_file, shapes.image_root)
