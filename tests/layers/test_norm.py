import pytest
import torch
import torch.distributed as dist
from detectron2.layers import FrozenBatchNorm2d, NaiveSyncBatchNorm
from detectron2.layers.batch_norm import LayerNorm
from torch import multiprocessing as mp
from torch import nn

from resnest_d2.layers import SplitAttentionConv2d, adapt_sync_norms, get_attention_norm


@pytest.mark.parametrize(
    ("name", "kind"), [("BN", nn.BatchNorm2d), ("FrozenBN", FrozenBatchNorm2d), ("LN", LayerNorm)]
)
def test_other_norms_are_detectron2s(name, kind):
    assert isinstance(get_attention_norm(name, 32), kind)


def test_no_norm():
    assert get_attention_norm("", 32) is None


def test_group_norm_has_a_group_a_cardinal_group():
    assert get_attention_norm("GN", 32, groups=2).num_groups == 2


def test_without_a_process_group_nothing_is_replaced():
    module = nn.Sequential(nn.SyncBatchNorm(4))
    assert adapt_sync_norms(module) is module and isinstance(module[0], nn.SyncBatchNorm)


def _train_in_gloo(rank, folder, x):
    dist.init_process_group("gloo", f"file://{folder}/store", world_size=2, rank=rank)
    torch.manual_seed(0)
    layer = adapt_sync_norms(SplitAttentionConv2d(32, 32, norm="SyncBN"))
    out = layer.train()(x[rank : rank + 1])  # one image a process: two values a channel
    torch.save((type(layer.bn0), out.detach(), layer.state_dict()), f"{folder}/{rank}.pt")
    dist.destroy_process_group()


def test_sync_norms_in_a_gloo_group_equal_one_large_batch(tmp_path):
    torch.manual_seed(1)
    # Images unlike each other: the naive norm subtracts squares, which loses digits else.
    x = torch.rand(2, 32, 5, 5) * torch.tensor([1.0, 4.0])[:, None, None, None]
    mp.spawn(_train_in_gloo, (str(tmp_path), x), nprocs=2)
    torch.manual_seed(0)
    whole = SplitAttentionConv2d(32, 32, norm="BN").train()
    expected = whole(x)
    for rank in range(2):
        kind, out, state = torch.load(tmp_path / f"{rank}.pt", weights_only=False)
        assert kind is NaiveSyncBatchNorm
        torch.testing.assert_close(out, expected[rank : rank + 1], rtol=1e-3, atol=1e-4)
        torch.testing.assert_close(state["bn1.running_mean"], whole.bn1.running_mean)
