import json

import torch

from resnest_d2.engine import Trainer
from resnest_d2.engine.validation_loss import build_validation_loader, validation_losses


def test_repeats_and_leaves_everything_as_it_was(tiny_cfg):
    cfg = tiny_cfg()
    model = Trainer.build_model(cfg).train()
    loader = build_validation_loader(cfg)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    random = torch.get_rng_state()
    first, second = validation_losses(model, loader), validation_losses(model, loader)
    assert torch.equal(torch.get_rng_state(), random)
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert all(m.training for m in model.modules())
    assert first == second
    losses = first["validation"]
    assert set(losses) > {"loss_cls", "loss_box_reg", "loss_mask", "loss_rpn_cls", "total_loss"}
    assert losses["total_loss"] == sum(v for k, v in losses.items() if k != "total_loss")

    # The mean over images, each alone, by running statistics.
    images = list(loader)
    alone = [validation_losses(model, [p])["validation"]["loss_mask"] for p in images]
    assert len(alone) == 2 and images[0][0]["image"].shape[1:] == (64, 96)
    with torch.no_grad():
        model.roi_heads.mask_head.predictor.bias -= 5
    assert validation_losses(model, loader)["validation"]["loss_mask"] > losses["loss_mask"] + 1


def test_retinanet_keeps_its_normalizer(tiny_cfg):
    cfg = tiny_cfg(MODEL__MASK_ON=False)
    cfg.MODEL.META_ARCHITECTURE = "RetinaNet"
    cfg.MODEL.BACKBONE.NAME = "build_retinanet_resnest_fpn_backbone"
    cfg.MODEL.RESNETS.OUT_FEATURES = cfg.MODEL.FPN.IN_FEATURES = ["res3", "res4", "res5"]
    cfg.MODEL.RETINANET.NUM_CLASSES, cfg.MODEL.RETINANET.NUM_CONVS = 2, 1
    model = Trainer.build_model(cfg).train()
    loader = build_validation_loader(cfg)
    assert validation_losses(model, loader) == validation_losses(model, loader)
    model.loss_normalizer = 7.0
    assert validation_losses(model, loader)["validation"]["loss_cls"] > 0
    assert model.loss_normalizer == 7.0


def test_stands_beside_ap(tiny_cfg, tmp_path):
    trainer = Trainer(tiny_cfg(TEST__VALIDATION_LOSS=True, TEST__EVAL_PERIOD=1, SOLVER__MAX_ITER=2))
    trainer.train()
    lines = [json.loads(line) for line in (tmp_path / "out/metrics.json").open()]
    seen = {line["iteration"]: line for line in lines if "validation/total_loss" in line}
    assert set(seen) == {0, 2} and all("bbox/AP" in line for line in seen.values())
