import logging
from fractions import Fraction
from pathlib import Path

import pytest
from detectron2.engine import DefaultTrainer

from resnest_d2 import get_cfg, load_config
from resnest_d2.engine.scaling import ROWS, scale_schedule


def schedule(cfg):
    return {row.key: cfg[row.key.split(".")[0]][row.key.split(".")[1]] for row in ROWS}


def assert_schedules_equal(cfg, expected, iterations=0):
    for key, value in schedule(expected).items():
        tolerance = {"rel": 1e-12} if isinstance(value, float) else {"abs": iterations}
        assert schedule(cfg)[key] == pytest.approx(value, **tolerance), key


def make(**keys):
    """A config; ``MAX_ITER=5`` is SOLVER.MAX_ITER, ``EVAL_EPOCHS`` TEST's."""
    cfg = get_cfg()
    for name, value in keys.items():
        section = "TEST" if name.startswith("EVAL") else "SOLVER"
        cfg.merge_from_list([f"{section}.{name}", value])
    return cfg


EIGHT = {"REFERENCE_WORLD_SIZE": 8, "IMS_PER_BATCH": 16, "BASE_LR": 0.02, "MAX_ITER": 90000}
EIGHT |= {"STEPS": (60000, 80000), "WARMUP_ITERS": 1000, "CHECKPOINT_PERIOD": 5000}


def test_turns_epochs_into_iterations():
    cfg = make(EPOCHS=25, EVAL_EPOCHS=3, MAX_ITER=100, STEPS=(60, 90), IMS_PER_BATCH=4)
    cfg.freeze()
    new = scale_schedule(cfg, images=2, processes=1)  # half a batch
    assert (new.SOLVER.MAX_ITER, new.SOLVER.STEPS, new.TEST.EVAL_PERIOD) == (13, (8, 12), 2)
    assert cfg.SOLVER.MAX_ITER == 100 and new.is_frozen()


def test_counts_after_scaling_to_the_number_of_processes():
    cfg = make(EPOCHS=10, REFERENCE_WORLD_SIZE=2, IMS_PER_BATCH=2)
    new = scale_schedule(cfg, images=2, processes=1)
    assert (new.SOLVER.IMS_PER_BATCH, new.SOLVER.MAX_ITER) == (1, 20)


@pytest.mark.parametrize("processes", [1, 2, 3, 16])
def test_scales_as_detectron2_does(processes):
    cfg = make(**EIGHT, EVAL_PERIOD=5000)
    new = scale_schedule(cfg, images=1000, processes=processes)
    theirs = DefaultTrainer.auto_scale_workers(cfg, processes)
    assert_schedules_equal(new, theirs)
    assert new.SOLVER.REFERENCE_WORLD_SIZE == processes
    assert DefaultTrainer.auto_scale_workers(new, processes) is new  # detectron2 adds nothing


def test_a_period_stays_a_period():
    cfg = make(**(EIGHT | {"CHECKPOINT_PERIOD": 1, "STEPS": (1, 2)}), EVAL_PERIOD=0)
    new = scale_schedule(cfg, images=1000, processes=80)
    assert new.SOLVER.CHECKPOINT_PERIOD == 1  # detectron2's 0 would divide by zero
    assert new.TEST.EVAL_PERIOD == 0 and new.SOLVER.STEPS == (1,)


@pytest.mark.parametrize("keys", [{}, {"EPOCHS": 12, "EVAL_EPOCHS": 1}], ids=["plain", "epochs"])
def test_is_a_fixed_point(keys, tmp_path):
    cfg = make(**EIGHT, **keys)
    new = scale_schedule(cfg, images=1001, processes=3)
    assert new != cfg and scale_schedule(new, images=1001, processes=3) is new
    (tmp_path / "config.yaml").write_text(new.dump())
    again = get_cfg()
    again.merge_from_file(str(tmp_path / "config.yaml"))
    assert scale_schedule(again, images=1001, processes=3) is again
    assert schedule(again) == schedule(new)


@pytest.mark.parametrize("keys", [{}, {"EPOCHS": 12, "EVAL_EPOCHS": 1}], ids=["plain", "epochs"])
def test_a_resolved_one_scales_to_other_processes_as_the_first(keys):
    cfg = make(**EIGHT, **keys)
    direct = scale_schedule(cfg, images=1600, processes=2)
    by_four = scale_schedule(cfg, images=1600, processes=4)
    by_two = scale_schedule(by_four, images=1600, processes=2)
    assert_schedules_equal(by_two, direct, iterations=1)  # rounded twice


def test_epochs_follow_other_data_and_a_longer_run():
    new = scale_schedule(make(EPOCHS=10, IMS_PER_BATCH=2, STEPS=()), images=20, processes=1)
    assert new.SOLVER.MAX_ITER == 100
    assert scale_schedule(new, images=40, processes=1).SOLVER.MAX_ITER == 200
    new.SOLVER.EPOCHS, new.SOLVER.STEPS = 20, (50,)
    longer = scale_schedule(new, images=20, processes=1).SOLVER
    assert (longer.MAX_ITER, longer.STEPS) == (200, (100,))


def test_without_epochs_it_is_the_same_config():
    cfg = make(REFERENCE_WORLD_SIZE=0)
    assert scale_schedule(cfg, images=2, processes=2) is cfg


def test_what_was_derived_is_one_line(caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger("resnest_d2"), "propagate", True)
    caplog.set_level(logging.INFO)
    scale_schedule(make(EPOCHS=3, IMS_PER_BATCH=4), images=10, processes=2)
    (record,) = caplog.records
    assert "10 images and 2 processes: an epoch is 2.5 iterations" in record.message
    assert "SOLVER.MAX_ITER 8, SOLVER.STEPS (6,)" in record.message


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"IMS_PER_BATCH": 15, "REFERENCE_WORLD_SIZE": 8}, "is 15, which .* 8 does not divide"),
        ({"IMS_PER_BATCH": 4}, r"is 4, which 3 processes \(--num-gpus\) cannot share"),
    ],
)
def test_refuses_a_batch_that_cannot_be_shared(keys, message):
    with pytest.raises(ValueError, match=message):
        scale_schedule(make(**keys), images=10, processes=3)


def test_every_row_is_a_key_and_in_the_docs():
    table = (Path(__file__).parents[2] / "docs" / "training.md").read_text()
    values = schedule(get_cfg())
    for row in ROWS:
        assert row.multiply(values[row.key], Fraction(1)) == values[row.key], row.key
        assert f"`{row.key}`" in table


@pytest.mark.parametrize(
    ("epochs", "iterations"),
    [
        ("SOLVER.EPOCHS", "SOLVER.MAX_ITER"),
        ("SOLVER.EPOCHS", "SOLVER.STEPS"),
        ("TEST.EVAL_EPOCHS", "TEST.EVAL_PERIOD"),
    ],
)
def test_refuses_both(epochs, iterations):
    name = "quick_schedules/mask_rcnn_ResNeSt_14_FPN_quick.yaml"
    value = "(5,)" if iterations.endswith("STEPS") else "5"
    load_config(name, [iterations, value])
    with pytest.raises(ValueError, match=f"{iterations} is given, but {epochs} is 2"):
        load_config(name, [epochs, "2", iterations, value])
