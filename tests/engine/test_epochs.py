import pytest

from resnest_d2 import load_config
from resnest_d2.engine.epochs import with_epochs


def test_turns_epochs_into_iterations(tiny_cfg):
    keys = {"SOLVER__MAX_ITER": 100, "SOLVER__STEPS": (60, 90), "SOLVER__IMS_PER_BATCH": 4}
    cfg = tiny_cfg(SOLVER__EPOCHS=25, TEST__EVAL_EPOCHS=3, **keys)  # two images: half a batch
    cfg.freeze()
    new = with_epochs(cfg)
    assert (new.SOLVER.MAX_ITER, new.SOLVER.STEPS, new.TEST.EVAL_PERIOD) == (13, (8, 12), 2)
    assert cfg.SOLVER.MAX_ITER == 100 and new.is_frozen()


def test_counts_after_scaling_to_the_number_of_processes(tiny_cfg):
    keys = {"SOLVER__REFERENCE_WORLD_SIZE": 2, "SOLVER__IMS_PER_BATCH": 2}
    new = with_epochs(tiny_cfg(SOLVER__EPOCHS=10, **keys))
    assert (new.SOLVER.IMS_PER_BATCH, new.SOLVER.MAX_ITER) == (1, 20)


def test_without_epochs_it_is_the_same_config(tiny_cfg):
    cfg = tiny_cfg()
    assert with_epochs(cfg) is cfg


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
