"""Anchors of a training: found once, kept in config.yaml, and taken from there."""

import logging
from pathlib import Path

import pytest
import small
import yaml

from resnest_d2 import load_config, register_datasets
from resnest_d2.engine import Trainer, evaluate
from resnest_d2.engine import anchors as module
from resnest_d2.engine.anchors import check_anchors_of_run, fit_anchors
from resnest_d2.engine.guards import load_training_images
from resnest_d2.engine.run import argument_parser, run
from resnest_d2.errors import UserError
from resnest_d2.inference import Predictor

AUTO = {"MODEL__ANCHOR_GENERATOR__AUTO": True}
FAR = {"MODEL__ANCHOR_GENERATOR__SIZES": [[128], [128], [128], [128], [256]]}  # of 64 x 96


def numbers(cfg):
    keys = cfg["MODEL"]["ANCHOR_GENERATOR"]
    return keys["AUTO"], keys["SIZES"], keys["ASPECT_RATIOS"]


@pytest.fixture
def finds(monkeypatch):
    """Grows by an entry whenever anchors are searched."""
    calls, find = [], module.find_anchors

    def count(*arguments):
        calls.append(arguments)
        return find(*arguments)

    monkeypatch.setattr(module, "find_anchors", count)
    return calls


@pytest.fixture
def command(tiny_cfg, tmp_path):
    """A function that runs train_net.py on a config file of the keys given."""

    def call(*flags, **keys):
        (tmp_path / "given.yaml").write_text(tiny_cfg(**FAR, **keys).dump())
        words = ["--config-file", str(tmp_path / "given.yaml"), *flags]
        return run(argument_parser().parse_args(words))

    yield call
    small.forget_logs()


def test_found_anchors_are_logged_and_replace_those_of_the_config(tiny_cfg, caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger("resnest_d2"), "propagate", True)
    caplog.set_level(logging.INFO)
    cfg = tiny_cfg(**AUTO, **FAR)
    fit = fit_anchors(cfg, load_training_images(cfg))
    # Two boxes of 20 x 30 in images of 40 x 60, which become 64 x 96.
    off, sizes, ratios = numbers(fit.cfg)
    assert not off and [round(1.6 * (20 * 30) ** 0.5, 1)] in sizes and 1.5 in ratios[0]
    assert (len(sizes), len(ratios), len(ratios[0])) == (5, 1, 3)
    assert (fit.found.before, fit.found.recall, fit.kept) == (0, 1, False)
    assert numbers(cfg) == (True, FAR["MODEL__ANCHOR_GENERATOR__SIZES"], [[0.5, 1.0, 2.0]])
    lines = [r.message for r in caplog.records if r.message.startswith("Anchors: ")]
    assert len(lines) == 1 and "100.0% of the training boxes overlap an anchor" in lines[0]
    assert f"0.0% before: SIZES {sizes}" in lines[0]


def test_anchors_that_are_as_good_stay(tiny_cfg):
    sizes = [[39.2], [50], [64], [128], [256]]
    cfg = tiny_cfg(**AUTO, MODEL__ANCHOR_GENERATOR__SIZES=sizes)
    fit = fit_anchors(cfg, load_training_images(cfg))
    assert fit.kept and numbers(fit.cfg) == (False, sizes, [[0.5, 1.0, 2.0]])
    assert "the config's SIZES [[39.2]" in str(fit)


def test_without_auto_nothing_is_searched(tiny_cfg, finds):
    cfg = tiny_cfg()
    assert fit_anchors(cfg, load_training_images(cfg)) is None and not finds


def test_data_without_boxes_is_refused(tiny_cfg):
    cfg = tiny_cfg(**AUTO)
    with pytest.raises(
        UserError, match=r"AUTO is True, but DATASETS.TRAIN \['tiny'\] has no boxes"
    ):
        fit_anchors(cfg, [{"height": 9, "width": 9, "annotations": []}])


def test_sizes_of_a_range_count_too(tiny_cfg, finds):
    range_ = {"INPUT__MIN_SIZE_TRAIN": (32, 64), "INPUT__MIN_SIZE_TRAIN_SAMPLING": "range"}
    cfg = tiny_cfg(**AUTO, **FAR, **range_)
    fit_anchors(cfg, load_training_images(cfg))
    assert {tuple(size) for size in finds[0][0].images} == {
        (48, 32), (60, 40), (72, 48), (84, 56), (96, 64)
    }  # fmt: skip


def test_a_run_keeps_its_anchors(command, finds, tmp_path):
    """In config.yaml, when it is resumed, and when it is evaluated; evaluated without, never."""
    command(**AUTO, SOLVER__MAX_ITER=1)
    file = tmp_path / "out" / "config.yaml"
    before = yaml.safe_load(file.read_text())
    assert numbers(before)[0] is False and [39.2] in numbers(before)[1] and len(finds) == 1
    with pytest.raises(UserError, match="AUTO is True: a training finds .*config.yaml of that run"):
        command("--eval-only", **AUTO)
    assert yaml.safe_load(file.read_text()) == before  # the run's, untouched
    command("--resume", **AUTO, SOLVER__MAX_ITER=2)
    assert numbers(yaml.safe_load(file.read_text())) == numbers(before) and len(finds) == 1
    cfg = load_config(str(tmp_path / "given.yaml"), ["MODEL.WEIGHTS", "x.pth"])
    for refused in (lambda: evaluate(cfg), lambda: Predictor(str(tmp_path / "given.yaml"))):
        with pytest.raises(UserError, match="AUTO is True: a training finds the anchors"):
            refused()


def test_a_dry_run_shows_both_recalls(command, capsys, tmp_path):
    command("--dry-run", **AUTO)
    rows = {line[:18].strip(): line[18:].strip() for line in capsys.readouterr().out.splitlines()}
    assert rows["anchors' recall"].startswith("100.0% of the boxes with IoU 0.5, 0.0% before")
    assert "39.2" in rows["anchors' sizes"].split(", ") and "1.5" in rows["anchors' ratios"]
    assert [39.2] in numbers(yaml.safe_load((tmp_path / "out" / "config.yaml").read_text()))[1]
    command("--dry-run")
    assert "anchors" not in capsys.readouterr().out


def test_a_trainer_of_a_program_finds_them_too(tiny_cfg, finds):
    cfg = tiny_cfg(**AUTO, **FAR, SOLVER__MAX_ITER=1)
    trainer = Trainer(cfg)
    generator = trainer.model.proposal_generator.anchor_generator
    sides = {round(float((a[2] - a[0]) * (a[3] - a[1])) ** 0.5, 1)
             for cell in generator.cell_anchors for a in cell}  # fmt: skip
    assert 39.2 in sides and len(finds) == 1
    file = Path(cfg.OUTPUT_DIR) / "config.yaml"
    assert not file.exists()
    trainer.train()
    assert numbers(yaml.safe_load(file.read_text())) == numbers(trainer.cfg)


def test_another_runs_anchors_are_refused(tiny_cfg):
    cfg = tiny_cfg(**FAR)
    check_anchors_of_run(cfg)  # there is no run
    (Path(cfg.OUTPUT_DIR) / "config.yaml").write_text(cfg.dump())
    check_anchors_of_run(cfg)
    cfg.MODEL.ANCHOR_GENERATOR.SIZES = [[8], [16], [32], [64], [128]]
    with pytest.raises(
        UserError, match="began with other anchors .*resume it with its config.yaml"
    ):
        check_anchors_of_run(cfg)


def test_a_shipped_config_takes_the_anchors_of_its_data(tmp_path):
    small.write_data(tmp_path)
    opts = [*small.data_keys(tmp_path, "found"), "MODEL.ANCHOR_GENERATOR.AUTO", True]
    cfg = load_config("finetune/mask_rcnn_ResNeSt_14_FPN_finetune.yaml", opts)
    register_datasets(cfg)
    fit = fit_anchors(cfg, load_training_images(cfg))
    assert fit.found.recall >= fit.found.before and not fit.cfg.MODEL.ANCHOR_GENERATOR.AUTO
