import torch
from torch import nn

from resnest_d2 import get_cfg
from resnest_d2.engine.hooks import build_precise_bn


def test_sets_the_statistics_of_its_own_batches():
    cfg = get_cfg()
    cfg.DATALOADER.NUM_WORKERS = 3
    cfg.TEST.PRECISE_BN.NUM_ITER = 2
    model, asked = nn.BatchNorm1d(1), []

    def build_loader(cfg):
        asked.append(cfg.DATALOADER.NUM_WORKERS)
        return [torch.full((2, 1), 3.0), torch.full((2, 1), 5.0)]

    assert build_precise_bn(cfg, model, build_loader) is None and not asked
    cfg.TEST.PRECISE_BN.ENABLED = True
    assert build_precise_bn(cfg, nn.Linear(1, 1), build_loader) is None and not asked
    cfg.freeze()
    hook = build_precise_bn(cfg, model, build_loader)
    assert asked == [0] and cfg.DATALOADER.NUM_WORKERS == 3
    hook.update_stats()
    torch.testing.assert_close(model.running_mean, torch.tensor([4.0]))
