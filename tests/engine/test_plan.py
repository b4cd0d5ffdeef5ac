import small
import torch

from resnest_d2 import load_config, register_datasets
from resnest_d2.checkpoint.fitting import build_on_meta
from resnest_d2.config import load_recipe
from resnest_d2.engine.guards import load_training_images
from resnest_d2.engine.plan import describe_training
from resnest_d2.engine.schedule import fit_schedule


def table(opts, *, processes=1, config=small.FASTER):
    """Rows of the dry run, by label."""
    cfg, given = load_config(config, opts), frozenset(opts[::2])
    register_datasets(cfg)
    images = load_training_images(cfg)
    recipe = load_recipe(config)
    cfg = fit_schedule(cfg, recipe, images=len(images), processes=processes, given=given)
    text = describe_training(cfg, images, processes=processes, given=given)
    return {line[:18].strip(): line[18:] for line in text.splitlines()}


def test_says_what_would_run(tmp_path):
    small.write_data(tmp_path)
    data = small.data_keys(tmp_path, "plan")
    rows = table([*data, "SOLVER.EPOCHS", 20, "SOLVER.CHECKPOINTS_TO_KEEP", 2])
    assert (
        rows["training data"].split()[:2] == ["4", "images,"]
        and "plan_train" in rows["training data"]
    )
    assert rows["evaluation data"].split() == ["3", "images", "plan_val"]
    assert rows["classes"].split() == ["3", "circle,", "square,", "triangle"]
    assert rows["epochs"].split() == ["20", "set", "by", "you"]
    assert rows["iterations"].split()[0] == "20" and "set by you" not in rows["iterations"]
    assert rows["decays at"].startswith("16, 19")
    assert rows["warm-up"].startswith("2 iterations")
    assert rows["evaluation every"].startswith("1 iteration ")
    assert rows["checkpoints"].strip() == "at least every 15 minutes; the last 2 kept, and the best"
    assert rows["starts from"].strip() == "random weights"
    assert "GiB per process" in rows["memory"] and "backbone's norms" not in rows


def test_says_what_starts_from_where(tmp_path):
    small.write_data(tmp_path)
    data = small.data_keys(tmp_path, "plan_from")
    model = build_on_meta(load_config(small.FASTER, ["MODEL.ROI_HEADS.NUM_CLASSES", 80]))
    weights = {name: torch.zeros(value.shape) for name, value in model.state_dict().items()}
    torch.save({"model": weights}, tmp_path / "a.pth")
    rows = table([*data, "MODEL.WEIGHTS", str(tmp_path / "a.pth")])
    assert "80 classes there, 3 here" in rows["starts from"]
    assert rows["backbone's norms"].startswith("FrozenBN")


def test_says_which_jitter_is_on(tmp_path):
    small.write_data(tmp_path)
    data = small.data_keys(tmp_path, "plan_jitter")
    opts = [*data, "MODEL.WEIGHTS", "", "SOLVER.MAX_ITER"]
    config = "finetune/faster_rcnn_ResNeSt_14_FPN_finetune.yaml"
    rows = table([*opts, 2000], config=config)
    assert rows["scale jitter"].startswith("(0.8, 1.25)") and rows["colour jitter"][:3] == "0.2"
    rows = table([*opts, 1999, "INPUT.AUG.COLOR_JITTER", 0.1], config=config)
    assert rows["colour jitter"].split() == ["0.1", "set", "by", "you"]
    assert "scale jitter" not in rows
