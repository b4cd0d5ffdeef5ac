import torch
from torch import nn

from resnest_d2.engine.checkpointer import AveragingCheckpointer, build_checkpointer
from resnest_d2.engine.hooks import WeightAverage


def test_saves_the_average_and_leaves_the_model_as_it_was(tmp_path):
    model = nn.Linear(1, 1)
    nn.init.constant_(model.weight, 1.0)
    ema = WeightAverage(model, decay=0.9)
    ema.before_train()
    nn.init.constant_(model.weight, 12.0)
    ema.after_step()  # 2 / 11 of the first weight
    checkpointer = build_checkpointer(model, str(tmp_path), ema=ema, hook=ema)
    assert isinstance(checkpointer, AveragingCheckpointer)
    checkpointer.save("all")
    checkpointer.save_weights(str(tmp_path / "weights.pth"))
    for name in ("all.pth", "weights.pth"):
        saved = torch.load(tmp_path / name, weights_only=True)
        torch.testing.assert_close(saved["model"]["weight"], torch.full((1, 1), 10.0))
        assert model.weight.item() == 12.0
    own = torch.load(tmp_path / "all.pth", weights_only=True)["hook"]["weights"]
    assert own["weight"].item() == 12.0


def test_without_an_average_it_saves_the_model(tmp_path):
    model = nn.Linear(1, 1)
    build_checkpointer(model, str(tmp_path), ema=None).save("all")
    saved = torch.load(tmp_path / "all.pth", weights_only=True)["model"]
    assert torch.equal(saved["weight"], model.weight)
