"""The schedule of a new training: what holds for every config, number of images and processes."""

import functools
import logging
import math
from pathlib import Path

import pytest

from resnest_d2.config import list_configs, load_config, load_recipe
from resnest_d2.engine.scaling import scale_schedule
from resnest_d2.engine.schedule import fit_schedule, warn_of_low_peak
from resnest_d2.engine.schedule_rules import RULES, epochs_for
from resnest_d2.errors import UserError

PUBLISHED = [
    f"COCO-{kind}/{name}_ResNeSt_{depth}_FPN_1x.yaml"
    for kind, names in (
        ("Detection", ("faster_rcnn", "cascade_rcnn")),
        ("InstanceSegmentation", ("mask_rcnn", "cascade_mask_rcnn")),
    )
    for name in names
    for depth in (50, 101)
]
OTHERS = [c for c in list_configs() if c.startswith(("quick_schedules/", "finetune/"))]
FINETUNE = [
    f"finetune/{kind}_rcnn_ResNeSt_{depth}_FPN_finetune.yaml"
    for kind in ("faster", "mask")
    for depth in (14, 26, 50)
]
GIVEN = {
    "nothing": [],
    "epochs": ["SOLVER.EPOCHS", 7],
    "iterations": ["SOLVER.MAX_ITER", 5000],
    "batch": ["SOLVER.IMS_PER_BATCH", 8],
}
OWN = ["DATASETS.TRAIN", ("mine_train",), "DATASETS.TEST", ("mine_val",)]


@functools.cache
def load(name, opts):
    return load_config(name, opts), load_recipe(name)


def fit(name, opts=(), *, images, processes=1, data=OWN):
    opts = (*data, *opts)
    cfg, recipe = load(name, opts)
    return fit_schedule(cfg, recipe, images=images, processes=processes, given=opts[::2])


def peak(cfg):
    """The highest learning rate of the run, as detectron2 computes it."""
    solver = cfg.SOLVER
    end = min([solver.MAX_ITER, *solver.STEPS])
    if solver.WARMUP_ITERS < end:
        return solver.BASE_LR
    part = (end - 1) / solver.WARMUP_ITERS
    return solver.BASE_LR * (solver.WARMUP_FACTOR * (1 - part) + part)


@pytest.mark.parametrize("given", GIVEN)
@pytest.mark.parametrize("processes", [1, 2, 8])
@pytest.mark.parametrize("images", [12, 160, 5000, 118000])
@pytest.mark.parametrize("name", [*PUBLISHED, *OTHERS])
def test_fits(name, images, processes, given):
    cfg = fit(name, GIVEN[given], images=images, processes=processes)
    recipe, solver, epoch = load(name, ())[1], cfg.SOLVER, images / cfg.SOLVER.IMS_PER_BATCH
    assert peak(cfg) == solver.BASE_LR
    assert solver.WARMUP_ITERS <= solver.MAX_ITER / 10
    assert solver.STEPS and 0 < solver.STEPS[0] < solver.MAX_ITER
    evaluations = math.ceil(solver.MAX_ITER / cfg.TEST.EVAL_PERIOD)  # the last one at the end
    assert evaluations >= min(10, solver.MAX_ITER)
    if solver.MAX_ITER <= 30 * epoch:
        assert cfg.TEST.EVAL_PERIOD < epoch + 1
    assert cfg.TEST.EVAL_PERIOD % solver.CHECKPOINT_PERIOD == 0
    batch = solver.IMS_PER_BATCH / recipe.SOLVER.IMS_PER_BATCH
    assert solver.BASE_LR == pytest.approx(recipe.SOLVER.BASE_LR * batch)
    assert solver.IMS_PER_BATCH % processes == 0
    for key, value in zip(GIVEN[given][::2], GIVEN[given][1::2], strict=True):
        assert cfg.SOLVER[key.removeprefix("SOLVER.")] == value
    if given == "epochs":
        assert solver.MAX_ITER == pytest.approx(7 * epoch, abs=1)
    assert (
        scale_schedule(cfg, images=images, processes=processes) is cfg
    )  # config.yaml is what runs


@pytest.mark.parametrize(("images", "length", "period"), [(205, 718, 72), (5, 18, 1), (6, 21, 2)])
def test_ten_evaluations_in_a_short_run(images, length, period):
    cfg = fit(FINETUNE[0], GIVEN["epochs"], images=images)
    assert (cfg.SOLVER.MAX_ITER, cfg.TEST.EVAL_PERIOD) == (length, period)


@pytest.mark.parametrize("name", FINETUNE)
def test_small_detectors_get_a_length_that_suits_the_data(name):
    solver = fit(name, images=160, processes=2).SOLVER
    batch, length = (4, 4000) if "_14_" in name else (8, 2000)
    assert (solver.IMS_PER_BATCH, solver.EPOCHS, solver.MAX_ITER) == (batch, 100, length)
    assert solver.STEPS == (0.8 * length, 0.95 * length)


@pytest.mark.parametrize("name", FINETUNE)
def test_small_detectors_train_whole_and_norms_too_from_scratch(name):
    pretrained, scratch = (fit(name, opts, images=160) for opts in ([], ["MODEL.WEIGHTS", ""]))
    assert pretrained.MODEL.RESNETS.NORM == "FrozenBN" and scratch.MODEL.RESNETS.NORM == "SyncBN"
    assert pretrained.MODEL.WEIGHTS.startswith("resnest://timm/resnest")
    assert scratch.MODEL.BACKBONE.FREEZE_AT == 0 and scratch.SOLVER.WARMUP_ITERS == 100


@pytest.mark.parametrize("processes", [1, 2, 8])
@pytest.mark.parametrize("name", PUBLISHED)
def test_on_its_own_data_a_recipe_stays_as_published(name, processes):
    recipe = load_recipe(name).SOLVER
    solver = fit(name, images=117266, processes=processes, data=()).SOLVER
    assert solver.MAX_ITER * processes == recipe.MAX_ITER * 8
    assert [step * processes for step in solver.STEPS] == [step * 8 for step in recipe.STEPS]
    assert solver.WARMUP_ITERS == pytest.approx(recipe.WARMUP_ITERS * 8 / processes, abs=1)
    assert (solver.IMS_PER_BATCH, solver.EPOCHS) == (2 * processes, 0)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("SOLVER.IMS_PER_BATCH", 6),
        ("SOLVER.BASE_LR", 0.5),
        ("SOLVER.MAX_ITER", 123),
        ("SOLVER.STEPS", (5,)),
        ("SOLVER.WARMUP_ITERS", 3000),
        ("TEST.EVAL_PERIOD", 77),
        ("SOLVER.CHECKPOINT_PERIOD", 78),
        ("MODEL.RESNETS.NORM", "BN"),
        ("SOLVER.EPOCHS", 5),
    ],
)
def test_what_the_user_sets_is_taken_as_set(key, value):
    cfg = fit(PUBLISHED[0], [key, value], images=160, processes=2)
    section, name = key.rsplit(".", 1)
    node = cfg
    for part in section.split("."):
        node = node[part]
    assert node[name] == value


def test_epochs_between_evaluations_are_the_users():
    cfg = fit(PUBLISHED[0], ["TEST.EVAL_EPOCHS", 3, "SOLVER.EPOCHS", 9], images=100)
    assert (cfg.SOLVER.MAX_ITER, cfg.TEST.EVAL_PERIOD, cfg.SOLVER.CHECKPOINT_PERIOD) == (
        450,
        150,
        150,
    )


@pytest.mark.parametrize(
    ("opts", "norm"),
    [
        ([], "FrozenBN"),
        (["SOLVER.IMS_PER_BATCH", 7], "FrozenBN"),
        (["SOLVER.IMS_PER_BATCH", 8], "SyncBN"),
        (["MODEL.WEIGHTS", ""], "SyncBN"),
        (["MODEL.RESNETS.NORM", "SyncBN"], "SyncBN"),
        (["MODEL.RESNETS.NORM", "GN"], "GN"),
        (["MODEL.RESNETS.ACTIVATION_CHECKPOINT", "light"], "SyncBN"),
        (["MODEL.RESNETS.ACTIVATION_CHECKPOINT", "block"], "FrozenBN"),
    ],
)
def test_pretrained_norms_are_frozen_in_small_batches(opts, norm, caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger("resnest_d2"), "propagate", True)
    caplog.set_level(logging.INFO)
    assert fit(PUBLISHED[0], opts, images=160).MODEL.RESNETS.NORM == norm
    assert ("norms are frozen, because a batch has" in caplog.text) is (norm == "FrozenBN")


@pytest.mark.parametrize("name", ["shapes_mine", "coco_2017_mine"])
def test_own_data_with_a_name_like_a_recipes_is_own_data(name):
    data = ["DATASETS.TRAIN", (name,), "DATASETS.TEST", (name,)]
    assert fit(PUBLISHED[0], images=160, data=data).SOLVER.EPOCHS == 100


def test_norms_that_the_user_froze_are_not_explained(caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger("resnest_d2"), "propagate", True)
    caplog.set_level(logging.INFO)
    cfg = fit(PUBLISHED[0], ["MODEL.RESNETS.NORM", "FrozenBN"], images=160)
    assert cfg.MODEL.RESNETS.NORM == "FrozenBN" and "norms are frozen" not in caplog.text


def test_small_data_is_shown_more_often():
    assert [epochs_for(n) for n in (12, 160, 1000, 5000, 28000, 118000)] == [
        289,
        100,
        47,
        24,
        12,
        12,
    ]


def test_one_line_has_what_runs(caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger("resnest_d2"), "propagate", True)
    caplog.set_level(logging.INFO)
    fit(PUBLISHED[0], ["SOLVER.EPOCHS", 12], images=160)
    line = caplog.records[0].message
    assert "160 images and 1 process: an epoch is 80.0 iterations" in line
    assert "SOLVER.MAX_ITER 960, SOLVER.STEPS (640, 880), SOLVER.WARMUP_ITERS 96" in line


def test_a_batch_that_cannot_be_shared_is_refused():
    with pytest.raises(UserError, match=r"is 4, which 3 processes \(--num-gpus\) cannot share"):
        fit(PUBLISHED[0], ["SOLVER.IMS_PER_BATCH", 4], images=10, processes=3)


@pytest.mark.parametrize(
    ("keys", "warned"),
    [
        ({"WARMUP_ITERS": 100, "MAX_ITER": 100}, False),
        ({"WARMUP_ITERS": 101, "MAX_ITER": 100}, True),
        ({"WARMUP_ITERS": 50, "MAX_ITER": 100, "STEPS": (40,)}, True),
        ({"WARMUP_ITERS": 101, "MAX_ITER": 100, "WARMUP_FACTOR": 1.0}, False),
    ],
)
def test_a_rate_that_stays_below_its_base_is_a_warning(keys, warned, caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger("resnest_d2"), "propagate", True)
    cfg = load_config(OTHERS[0], [x for k, v in keys.items() for x in (f"SOLVER.{k}", v)])
    if "STEPS" not in keys:
        cfg.SOLVER.STEPS = ()
    warn_of_low_peak(cfg)
    assert ("never reaches SOLVER.BASE_LR" in caplog.text) is warned


@pytest.mark.parametrize(
    ("opts", "jitter"),
    [
        (["MODEL.WEIGHTS", "", "SOLVER.MAX_ITER", 1999], [(), 0.0]),
        (["MODEL.WEIGHTS", "", "SOLVER.EPOCHS", 20], [(0.8, 1.25), 0.2]),
        (["SOLVER.EPOCHS", 6], [(0.8, 1.25), 0.2]),
        (["MODEL.WEIGHTS", "", "SOLVER.EPOCHS", 6, "INPUT.AUG.COLOR_JITTER", 0.1], [(), 0.1]),
    ],
    ids=["short from scratch", "long from scratch", "short from weights", "set by the user"],
)
def test_jitter_is_for_trainings_with_time_for_it(opts, jitter, caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger("resnest_d2"), "propagate", True)
    with caplog.at_level(logging.INFO):
        found = fit(FINETUNE[0], opts, images=200).INPUT.AUG
    assert [found.SCALE_JITTER, found.COLOR_JITTER] == jitter
    left_out = [k for k, v in zip(("SCALE", "COLOR"), jitter, strict=True) if not v]
    told = [f"INPUT.AUG.{key}_JITTER" in caplog.text.partition("Left out: ")[2] for key in left_out]
    assert ("Left out: " in caplog.text) == bool(left_out) and all(told)


def test_every_rule_is_in_the_docs():
    table = (Path(__file__).parents[2] / "docs" / "training.md").read_text()
    assert [rule.key for rule in RULES if f"| `{rule.key}`" not in table] == []
