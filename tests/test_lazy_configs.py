"""LazyConfig files: each builds and trains what the YAML config of its name does."""

import functools
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from unittest import mock

import detectron2.model_zoo
import numpy as np
import pytest
import small
import torch
from detectron2.checkpoint import DetectionCheckpointer
from detectron2.config import LazyConfig, instantiate
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.engine import SimpleTrainer, hooks
from detectron2.evaluation import inference_on_dataset
from detectron2.modeling import META_ARCH_REGISTRY, build_model
from detectron2.solver import LRMultiplier, build_lr_scheduler, build_optimizer
from detectron2.utils.events import EventStorage
from torch.overrides import TorchFunctionMode

from resnest_d2 import load_config, register_datasets
from resnest_d2.data import register_coco
from resnest_d2.data.mapper import NamingDatasetMapper
from resnest_d2.data.shapes import prepare_shapes
from resnest_d2.model_zoo import (
    find_lazy_config,
    find_model,
    get_lazy_config,
    list_lazy_configs,
    models,
)

EIGHT = [
    m.config.replace(".yaml", ".py")
    for m in models()
    if m.source == "mmdetection" and not m.is_backbone
]
QUICK = [
    f"quick_schedules/{name}.py"
    for name in (
        "cascade_mask_rcnn_ResNeSt_14_FPN_quick",
        "faster_rcnn_ResNeSt_14_FPN_quick",
        "mask_rcnn_ResNeSt_14_FPN_quick",
        "mask_rcnn_ResNeSt_14_FPN_shapes",
    )
]
ALL = [*EIGHT, *QUICK]
MASK = "quick_schedules/mask_rcnn_ResNeSt_14_FPN_quick.py"


class ParametersOnMeta(TorchFunctionMode):
    """Parameters and statistics take no memory and no time; anchors and means are real."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        if func in (torch.empty, torch.zeros, torch.ones):
            kwargs = {**(kwargs or {}), "device": "meta"}
        return func(*args, **(kwargs or {}))


def yaml_config(name):
    cfg = load_config(name.replace(".py", ".yaml"))
    register_datasets(cfg)
    cfg.MODEL.DEVICE = "cpu"
    return cfg


@functools.cache
def pair(name):
    """The two models of a name, the YAML's first; parameters without values."""
    cfg = yaml_config(name)
    with ParametersOnMeta():
        expected = META_ARCH_REGISTRY.get(cfg.MODEL.META_ARCHITECTURE)(cfg)
        return expected, instantiate(get_lazy_config(name).model)


def plain(value):
    """A setting as what compares by value; an object becomes its type and settings."""
    if isinstance(value, str | int | float | None):
        return value
    if isinstance(value, Mapping):
        return {key: plain(v) for key, v in value.items()}
    if isinstance(value, Sequence):
        return [plain(v) for v in value]
    if isinstance(value, torch.nn.Module) or not hasattr(value, "__dict__"):
        return type(value)
    return [type(value), plain(vars(value))]


def settings(module):
    """Everything that a module keeps besides its tensors and submodules."""
    tensors = ("_parameters", "_buffers", "_modules")
    found = {k: plain(v) for k, v in vars(module).items() if k not in tensors}
    if "loss_weight" in found and isinstance(found["loss_weight"], dict):
        # a box predictor takes 1 for a loss that is not named
        found["loss_weight"] = {"loss_cls": 1.0, "loss_box_reg": 1.0, **found["loss_weight"]}
    return found


def test_the_eight_and_the_quick_ones_are_there():
    assert len(EIGHT) == 8
    assert sorted(ALL) == list_lazy_configs()


@pytest.mark.parametrize("name", ALL)
def test_model_is_the_yaml_configs(name):
    expected, found = pair(name)
    theirs, ours = dict(expected.named_modules()), dict(found.named_modules())
    assert list(ours) == list(theirs)
    for path, module in theirs.items():
        assert type(ours[path]) is type(module), path
        assert settings(ours[path]) == settings(module), path
    assert {type(m).__name__ for m in ours.values()} >= {"ResNeSt", "CheckpointConvFCHead"}


@pytest.mark.parametrize("name", ALL)
def test_tensors_are_the_yaml_configs(name):
    expected, found = pair(name)
    parameters = [(n, p.shape, p.requires_grad) for n, p in expected.named_parameters()]
    assert [(n, p.shape, p.requires_grad) for n, p in found.named_parameters()] == parameters
    assert any(not grad for *_, grad in parameters) is (name in EIGHT)
    buffers = dict(expected.named_buffers())
    assert [(n, b.shape) for n, b in found.named_buffers()] == [
        (n, b.shape) for n, b in buffers.items()
    ]
    real = {n: b for n, b in found.named_buffers() if not b.is_meta}
    assert {"pixel_mean", "pixel_std", "proposal_generator.anchor_generator.cell_anchors.4"} <= set(
        real
    )
    for path, values in real.items():
        assert torch.equal(values, buffers[path]), path


@pytest.mark.parametrize("name", ALL)
def test_optimizer_and_every_learning_rate_are_the_yaml_configs(name):
    cfg, lazy = yaml_config(name), get_lazy_config(name)
    expected, found = pair(name)
    theirs = build_optimizer(cfg, expected)
    lazy.optimizer.params.model = found
    ours = instantiate(lazy.optimizer)
    assert type(ours).__name__ == type(theirs).__name__
    assert ("Clip" in type(ours).__name__) is (name in QUICK)
    names = [{id(p): n for n, p in model.named_parameters()} for model in (expected, found)]
    for group, other in zip(theirs.param_groups, ours.param_groups, strict=True):
        params = [names[0][id(p)] for p in group.pop("params")]
        assert [names[1][id(p)] for p in other.pop("params")] == params and params
        assert other == group

    assert lazy.train.max_iter == cfg.SOLVER.MAX_ITER


# The eight have one solver in YAML: test_mmdet_recipe.py.
@pytest.mark.parametrize("name", [EIGHT[0], *QUICK])
def test_learning_rate_of_every_iteration_is_the_yaml_configs(name):
    cfg, lazy = yaml_config(name), get_lazy_config(name)
    assert lazy.train.max_iter == cfg.SOLVER.MAX_ITER
    weight = torch.nn.Parameter(torch.zeros(1))
    multiplier = instantiate(lazy.lr_multiplier)
    schedules = [
        build_lr_scheduler(cfg, torch.optim.SGD([weight], lr=cfg.SOLVER.BASE_LR)),
        LRMultiplier(
            torch.optim.SGD([weight], lr=lazy.optimizer.lr), multiplier, lazy.train.max_iter
        ),
    ]
    rates = np.empty((2, cfg.SOLVER.MAX_ITER))
    for row, schedule in zip(rates, schedules, strict=True):
        for iteration in range(len(row)):
            schedule.last_epoch = iteration
            (row[iteration],) = schedule.get_lr()
    np.testing.assert_allclose(rates[1], rates[0], rtol=1e-12)
    assert rates[1].min() < 0.002 * rates[1].max()


@pytest.mark.parametrize("name", EIGHT)
def test_the_eight_have_one_schedule(name):
    first, other = get_lazy_config(EIGHT[0]), get_lazy_config(name)
    assert other.lr_multiplier == first.lr_multiplier
    assert other.train.max_iter == first.train.max_iter and other.optimizer == first.optimizer


@pytest.mark.parametrize("name", ALL)
def test_train_and_data_keys_are_the_yaml_configs(name):
    cfg, lazy = yaml_config(name), get_lazy_config(name)
    train, loader = lazy.train, lazy.dataloader
    assert train.init_checkpoint == cfg.MODEL.WEIGHTS
    assert train.eval_period == cfg.TEST.EVAL_PERIOD
    assert train.checkpointer == {"period": cfg.SOLVER.CHECKPOINT_PERIOD}
    assert train.get("seed", -1) == cfg.SEED
    assert (train.amp.enabled, train.output_dir) == (cfg.SOLVER.AMP.ENABLED, cfg.OUTPUT_DIR)
    assert (loader.train.dataset.images.names,) == cfg.DATASETS.TRAIN
    assert (loader.test.dataset.names,) == (loader.evaluator.dataset_name,) == cfg.DATASETS.TEST
    assert loader.train.dataset.min_image_size == cfg.DATALOADER.MIN_IMAGE_SIZE
    assert loader.train.dataset.min_box_size == cfg.DATALOADER.MIN_BOX_SIZE
    assert loader.train.total_batch_size == cfg.SOLVER.IMS_PER_BATCH
    assert loader.train.num_workers == loader.test.num_workers == cfg.DATALOADER.NUM_WORKERS
    assert cfg.DATALOADER.ASPECT_RATIO_GROUPING and cfg.DATALOADER.FILTER_EMPTY_ANNOTATIONS


@pytest.mark.parametrize("name", ALL)
def test_mappers_give_what_the_yaml_configs_do(name, shape_images):
    cfg, lazy = yaml_config(name), get_lazy_config(name)
    cfg.INPUT.MASK_FORMAT = lazy.dataloader.train.mapper.instance_mask_format = "bitmask"
    for is_train, node in ((True, lazy.dataloader.train), (False, lazy.dataloader.test)):
        theirs, ours = NamingDatasetMapper(cfg, is_train=is_train), instantiate(node.mapper)
        sizes = set()
        for seed, image in enumerate(shape_images * 3):
            np.random.seed(seed)
            expected = theirs(image)
            np.random.seed(seed)
            found = ours(image)
            assert set(found) == set(expected)
            assert torch.equal(found["image"], expected["image"])
            sizes.add(tuple(expected["image"].shape))
            if is_train:
                boxes = expected["instances"].gt_boxes.tensor
                assert torch.equal(found["instances"].gt_boxes.tensor, boxes)
                assert found["instances"].has("gt_masks") is ("mask" in name)
                if "mask" in name:
                    masks = expected["instances"].gt_masks.tensor
                    assert torch.equal(found["instances"].gt_masks.tensor, masks)
        assert len(sizes) > 1 or not is_train or name in QUICK


@pytest.fixture(scope="module")
def shape_images():
    """Two of the built-in images as detectron2's dicts."""
    prepare_shapes()
    return DatasetCatalog.get("shapes_train")[:2]


@pytest.mark.parametrize("name", QUICK[:2])
def test_same_losses_as_the_yaml_config(name, shape_images):
    cfg, lazy = yaml_config(name), get_lazy_config(name)
    torch.manual_seed(0)
    expected = build_model(cfg)
    found = instantiate(lazy.model)
    found.load_state_dict(expected.state_dict())
    batch = [NamingDatasetMapper(cfg, is_train=True)(image) for image in shape_images]
    losses = []
    for model in (expected, found):
        torch.manual_seed(1)
        with EventStorage():
            losses.append({k: v.item() for k, v in model(batch).items()})
    assert losses[0] == losses[1]
    assert len(losses[0]) == (2 + 3 * 3 if "cascade" in name else 4)


@pytest.fixture
def quick(tmp_path):
    """The quick Mask R-CNN, narrow and on four small images, as a LazyConfig."""
    small.write_data(tmp_path / "data")
    names = ["lazy_train", "lazy_val"]
    for name in names:
        split = name.removeprefix("lazy_")
        register_coco(name, str(tmp_path / f"data/{split}.json"), str(tmp_path / "data/images"))
    cfg = get_lazy_config(MASK)
    overrides = f"""
        model.backbone.out_channels=32 model.roi_heads.box_head.fc_dims=[32]
        model.roi_heads.mask_head.conv_dims=[32,32]
        model.roi_heads.box_predictor.test_score_thresh=0
        dataloader.train.dataset.images.names=lazy_train dataloader.test.dataset.names=lazy_val
        dataloader.train.num_workers=0 dataloader.train.total_batch_size=2
        train.max_iter=2 train.eval_period=2 train.checkpointer.period=1 train.device=cpu
        train.output_dir={tmp_path}/out
    """
    LazyConfig.apply_overrides(cfg, overrides.split())
    for split in (cfg.dataloader.train, cfg.dataloader.test):
        split.mapper.augmentations[0].short_edge_length = [64]
    yield cfg
    for name in names:
        DatasetCatalog.remove(name)
        MetadataCatalog.remove(name)


def train(cfg, *, resume=False):
    """What detectron2's tools/lazyconfig_train_net.py does with a config; the last results."""
    torch.manual_seed(cfg.train.seed)
    model = instantiate(cfg.model).to(cfg.train.device)
    cfg.optimizer.params.model = model
    trainer = SimpleTrainer(model, instantiate(cfg.dataloader.train), instantiate(cfg.optimizer))
    checkpointer = DetectionCheckpointer(model, cfg.train.output_dir, trainer=trainer)
    results = []

    def evaluate():
        loader, evaluator = (instantiate(cfg.dataloader[k]) for k in ("test", "evaluator"))
        results.append(inference_on_dataset(model, loader, evaluator))
        return results[-1]

    trainer.register_hooks(
        [
            hooks.LRScheduler(scheduler=instantiate(cfg.lr_multiplier)),
            hooks.PeriodicCheckpointer(checkpointer, **cfg.train.checkpointer),
            hooks.EvalHook(cfg.train.eval_period, evaluate),
        ]
    )
    checkpointer.resume_or_load(cfg.train.init_checkpoint, resume=resume)
    first = trainer.iter + 1 if resume else 0
    trainer.train(first, cfg.train.max_iter)
    return first, trainer, results[-1]


def test_trains_evaluates_and_resumes(quick, tmp_path):
    (tmp_path / "out").mkdir()
    first, trainer, results = train(quick)
    assert first == 0 and trainer.iter == 2
    assert set(results) == {"bbox", "segm"}
    assert 0 <= results["bbox"]["AP"] <= 100 and 0 <= results["segm"]["AP50"] <= 100
    whole = {n: v.clone() for n, v in trainer.model.state_dict().items()}

    quick.train.max_iter = 3
    first, longer, results = train(quick, resume=True)
    assert first == 2 and set(results) == {"bbox", "segm"}
    momentum = longer.optimizer.state_dict()["state"]
    assert all(s["momentum_buffer"].isfinite().all() for s in momentum.values()) and momentum
    changed = [n for n, v in longer.model.state_dict().items() if not torch.equal(v, whole[n])]
    assert any(n.endswith("predictor.weight") for n in changed)
    saved = torch.load(tmp_path / "out" / "model_0000001.pth", weights_only=False)
    for name, values in saved["model"].items():
        assert torch.equal(torch.as_tensor(values), whole[name]), name


def test_saved_config_builds_the_same_model(tmp_path):
    LazyConfig.save(get_lazy_config(QUICK[0]), str(tmp_path / "config.yaml"))
    assert not (tmp_path / "config.yaml.pkl").exists()
    again = LazyConfig.load(str(tmp_path / "config.yaml"))
    with ParametersOnMeta():
        found = instantiate(again.model)
    again.optimizer.params.model = found
    assert type(instantiate(again.optimizer)).__name__ == "SGDWithGradientClip"
    expected, _ = pair(QUICK[0])
    for (path, module), other in zip(expected.named_modules(), found.modules(), strict=True):
        assert settings(other) == settings(module), path


def test_widths_and_classes_are_set_in_one_place():
    cfg = get_lazy_config(QUICK[0])
    LazyConfig.apply_overrides(
        cfg, ["model.backbone.out_channels=64", "model.roi_heads.num_classes=7"]
    )
    with ParametersOnMeta():
        model = instantiate(cfg.model)
    shapes = {n: tuple(p.shape) for n, p in model.named_parameters()}
    assert shapes["proposal_generator.rpn_head.conv.weight"] == (64, 64, 3, 3)
    for stage in range(3):
        heads = f"roi_heads.{{}}.{stage}."
        assert shapes[heads.format("box_head") + "fc1.weight"] == (256, 64 * 49)
        assert shapes[heads.format("box_predictor") + "cls_score.weight"] == (8, 256)
        assert shapes[heads.format("mask_head") + "mask_fcn1.weight"] == (128, 64, 3, 3)
        assert shapes[heads.format("mask_head") + "predictor.weight"] == (7, 128, 1, 1)


def blocks_of_the_page():
    """The Python examples of docs/lazy.md."""
    page = Path(__file__).parents[1] / "docs" / "lazy.md"
    return re.findall(r"^```python\n(.*?)^```", page.read_text(), flags=re.M | re.S)


def test_the_pages_config_of_ones_own_data(tmp_path, monkeypatch):
    (block,) = [b for b in blocks_of_the_page() if "register_coco" in b]
    small.write_data(tmp_path / "data")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data" / "mine.py").write_text(block)
    cfg = get_lazy_config("data/mine.py")
    try:
        assert sorted(cfg) == ["dataloader", "lr_multiplier", "model", "optimizer", "train"]
        images = instantiate(cfg.dataloader.train.dataset)
        assert len(images) == 4 and all(Path(image["file_name"]).is_file() for image in images)
        assert cfg.dataloader.evaluator.dataset_name == "mine_val"
        assert instantiate(cfg.dataloader.train.mapper)(images[0])["instances"].has("gt_masks")
        assert instantiate(cfg.lr_multiplier)(0.5 * 20 / 300) == pytest.approx(0.5, rel=0.01)
    finally:
        for name in ("mine_train", "mine_val"):
            DatasetCatalog.remove(name)
            MetadataCatalog.remove(name)


def run_of_the_page(word):
    """What the page's example with a word in it leaves, with models on meta and nothing fetched."""
    (block,) = [b for b in blocks_of_the_page() if word in b]
    names = {}
    with ParametersOnMeta(), mock.patch.object(DetectionCheckpointer, "load") as load:
        exec(block, names)
        if "model" in names:
            names["model"] = instantiate(names["model"])
    return names, load


def test_the_pages_names():
    names, _ = run_of_the_page("find_lazy_config")
    assert Path(names["path"]).is_file() and names["cfg"].model.backbone.bottom_up.depth == 50


def test_the_pages_model():
    names, load = run_of_the_page("DetectionCheckpointer")
    load.assert_called_once_with("resnest://faster_rcnn_s50")
    assert names["model"].roi_heads.box_predictor.test_score_thresh == 0.5


def test_the_pages_resnest_in_a_config_of_detectron2():
    if not (Path(detectron2.model_zoo.__file__).parent / "configs").exists():
        pytest.skip("detectron2 is a bare checkout, its model zoo without configs")
    model = run_of_the_page("mask_rcnn_fpn")[0]["model"]
    assert len(model.backbone.bottom_up.res4) == 6 and model.input_format == "RGB"
    assert type(model.backbone.bottom_up).__name__ == "ResNeSt"


def test_trained_takes_the_published_weights():
    name = "COCO-Detection/faster_rcnn_ResNeSt_50_FPN_1x.py"
    trained = get_lazy_config(name, trained=True).train.init_checkpoint
    assert trained == find_model("faster_rcnn_s50").path == "resnest://faster_rcnn_s50"
    assert get_lazy_config(name).train.init_checkpoint == "resnest://imagenet/resnest50_detectron"
    with pytest.raises(ValueError, match="no published model 'mask_rcnn_ResNeSt_14_FPN_quick'"):
        get_lazy_config(MASK, trained=True)


def test_unknown_names_get_close_ones():
    with pytest.raises(FileNotFoundError, match="faster_rcnn_ResNeSt_50_FPN_1x.py"):
        find_lazy_config("COCO-Detection/faster_rcnn_resnest_50_fpn_1x.yaml")


def test_a_path_is_a_name_too(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text("train = dict(max_iter=5)\n")
    assert find_lazy_config(str(path)) == str(path)
    assert get_lazy_config(str(path)).train.max_iter == 5
