import torch
from torch import nn

from resnest_d2.engine import Trainer
from resnest_d2.engine.hooks import WeightAverage


def test_equals_the_formula():
    model = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    hook = WeightAverage(model, decay=0.3)
    hook.before_train()
    expected = {k: v.clone() for k, v in model.state_dict().items()}
    for decay in (2 / 11, 3 / 12, 0.3):  # (1 + t) / (10 + t), then the limit
        with torch.no_grad():
            model(torch.rand(4, 2))  # moves the running statistics
            model[0].weight.add_(1)
        hook.after_step()
        for name, value in model.state_dict().items():
            expected[name] = decay * expected[name] + (1 - decay) * value
    own = {k: v.clone() for k, v in model.state_dict().items()}
    with hook.applied(), hook.applied():
        held = {k: v.clone() for k, v in model.state_dict().items()}
        assert torch.equal(hook.state_dict()["weights"]["0.weight"], own["0.weight"])
    for name, value in expected.items():
        value = own[name] if name.endswith("tracked") else value  # a count is not averaged
        torch.testing.assert_close(held[name], value, check_dtype=False)
    assert not torch.equal(held["0.weight"], own["0.weight"])
    for name, value in model.state_dict().items():
        assert torch.equal(value, own[name])


def test_evaluates_and_keeps_the_average_and_resumes_with_it(tiny_cfg, monkeypatch):
    evaluated = []
    name = "roi_heads.box_predictor.cls_score.weight"
    monkeypatch.setattr(
        Trainer,
        "test",
        classmethod(
            lambda cls, c, m: evaluated.append(m.state_dict()[name].clone()) or {"bbox": {"AP": 1}}
        ),
    )
    cfg = tiny_cfg(MODEL__EMA__ENABLED=True, MODEL__MASK_ON=False, SOLVER__MAX_ITER=2)
    trainer = Trainer(cfg)
    trainer.train()
    first = torch.load(f"{cfg.OUTPUT_DIR}/model_final.pth", weights_only=True)
    hook = next(h for h in trainer._hooks if isinstance(h, WeightAverage))
    own = first["trainer"]["hooks"]["WeightAverage"]["weights"]
    assert torch.equal(first["model"][name], hook.average[name])
    assert torch.equal(evaluated[0], hook.average[name])
    assert torch.equal(own[name], trainer.model.state_dict()[name])
    assert not torch.equal(own[name], first["model"][name])
    best = torch.load(f"{trainer.cfg.OUTPUT_DIR}/model_best.pth", weights_only=True)
    assert torch.equal(best["model"][name], first["model"][name])

    trainer = Trainer(trainer.cfg.clone())
    trainer.resume_or_load(resume=True)
    hook = next(h for h in trainer._hooks if isinstance(h, WeightAverage))
    for key, value in own.items():
        assert torch.equal(trainer.model.state_dict()[key], value), key
        assert torch.equal(hook.average[key], first["model"][key]), key
    assert hook.steps == 2
