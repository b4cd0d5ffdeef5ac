import pytest
import torch
import torch.distributed as dist
from detectron2.layers import FrozenBatchNorm2d
from detectron2.layers.batch_norm import LayerNorm
from torch import multiprocessing as mp
from torch import nn

from resnest_d2.layers import (
    GlooSyncBatchNorm,
    SplitAttentionConv2d,
    adapt_sync_norms,
    get_attention_norm,
    norm_of_vector,
)


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


MOMENTA = (0.1, None)
IMAGES = torch.rand(4, 4, 6, 6, generator=torch.Generator().manual_seed(1)).double()


def _in_gloo(rank, folder):
    dist.init_process_group("gloo", f"file://{folder}/store", world_size=2, rank=rank)
    steps = [_normalize(rank, momentum) for momentum in MOMENTA]
    torch.save((steps, _train(IMAGES.chunk(2)[rank])), f"{folder}/{rank}.pt")
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def two_processes(tmp_path_factory):
    """Of each process of a gloo group: steps of a norm for each momentum, and of a training."""
    folder = tmp_path_factory.mktemp("gloo")
    mp.spawn(_in_gloo, (str(folder),), nprocs=2)
    return [torch.load(folder / f"{rank}.pt", weights_only=False) for rank in range(2)]


# Values of the two processes in several steps: the same number, other maps, none, one in all.
SIZES = [
    ((2, 3, 4), (2, 3, 4)),
    ((1, 5, 5), (4, 2, 3)),
    ((3, 1, 1), (1, 1, 1)),
    ((0, 7, 7), (2, 7, 7)),
    ((1, 1, 1), (0, 1, 1)),
    ((0, 1, 1), (0, 1, 1)),
]


def batches():
    """Inputs of both processes, by steps."""
    generator = torch.Generator().manual_seed(0)
    for sizes in SIZES:
        shapes = [(n, 4, h, w) for n, h, w in sizes]
        yield [
            torch.rand(shape, generator=generator, dtype=torch.double) * (rank + 1) + 9
            for rank, shape in enumerate(shapes)
        ]


def weigh(y):
    """A loss that tells the values apart."""
    return (y * torch.linspace(-1, 2, y.numel()).view_as(y)).sum()


def _normalize(rank, momentum):
    layer = adapt_sync_norms(nn.SyncBatchNorm(4, momentum=momentum).double())
    nn.init.constant_(layer.weight, 1.5)
    steps = []
    for x in (batch[rank].requires_grad_() for batch in batches()):
        layer.zero_grad()
        y = norm_of_vector(layer, x)
        weigh(y).backward()
        state = {name: value.clone() for name, value in layer.state_dict().items()}
        steps.append((y.detach(), x.grad, layer.weight.grad, layer.bias.grad, state))
    return steps


@pytest.mark.parametrize("momentum", MOMENTA)
def test_sync_norm_of_two_processes_equals_one_batch(momentum, two_processes):
    """Values, gradients and running statistics, with any numbers of values in the processes."""
    first, second = (steps[MOMENTA.index(momentum)] for steps, _ in two_processes)
    whole = nn.BatchNorm1d(4, momentum=momentum).double()
    nn.init.constant_(whole.weight, 1.5)
    for number, batch in enumerate(batches()):
        values = [x.transpose(0, 1).reshape(4, -1) for x in batch]
        x = torch.cat(values, 1).t().requires_grad_()  # (values, C)
        whole.train(len(x) > 1)
        whole.zero_grad()
        y = whole(x)
        parts = y.split([v.shape[1] for v in values])
        maps = [
            part.t().reshape(4, b.shape[0], *b.shape[2:]).transpose(0, 1)
            for part, b in zip(parts, batch, strict=True)
        ]
        sum(map(weigh, maps)).backward()
        x_grads = x.grad.split([v.shape[1] for v in values])
        for (got, x_grad, _, _, state), expected, grad in zip(
            (first[number], second[number]), maps, x_grads, strict=True
        ):
            torch.testing.assert_close(got, expected)
            torch.testing.assert_close(x_grad.transpose(0, 1).reshape(4, -1).t(), grad)
            for name, value in whole.state_dict().items():
                torch.testing.assert_close(state[name], value, rtol=0, atol=1e-12)
        for index, name in ((2, "weight"), (3, "bias")):
            total = first[number][index] + second[number][index]
            torch.testing.assert_close(total, getattr(whole, name).grad)


def _train(images):
    """Losses of twenty iterations of a small network with split attention, and its state.

    In doubles: iterations multiply rounding errors, also those of one process alone.
    """
    torch.manual_seed(0)
    layers = [SplitAttentionConv2d(c, 12 - c, norm="SyncBN") for c in (4, 8)]
    net = adapt_sync_norms(nn.Sequential(*layers).double()).train()
    model = nn.parallel.DistributedDataParallel(net) if dist.is_initialized() else net
    optimizer = torch.optim.SGD(net.parameters(), lr=0.05, momentum=0.9)
    losses = []
    for _ in range(20):
        loss = (model(images) - images.flip(1)).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses, net.state_dict()


def test_two_processes_train_as_one(two_processes):
    (first, state), (second, _) = (trained for _, trained in two_processes)
    losses, expected = _train(IMAGES)
    mean = [(a + b) / 2 for a, b in zip(first, second, strict=True)]
    torch.testing.assert_close(mean, losses, rtol=0, atol=1e-8)
    assert losses[-1] < 0.8 * losses[0]
    for name, value in expected.items():
        if "running" in name:
            torch.testing.assert_close(state[name], value, rtol=0, atol=1e-8)


def test_a_replaced_norm_keeps_its_parameters(tmp_path):
    dist.init_process_group("gloo", f"file://{tmp_path}/store", world_size=1, rank=0)
    try:
        old = nn.SyncBatchNorm(4, eps=0.1, momentum=None).double()
        old.weight.requires_grad_(False)
        new = adapt_sync_norms(old)
        assert isinstance(new, GlooSyncBatchNorm) and adapt_sync_norms(new) is new
        assert new.weight is old.weight and new.running_var is old.running_var
        assert (new.eps, new.momentum) == (0.1, None) and new.running_mean.dtype == torch.double
        x = torch.rand(3, 4, 2, 2).double()
        torch.testing.assert_close(new(x), nn.BatchNorm2d(4, eps=0.1).double()(x))
        assert new.num_batches_tracked == 1
    finally:
        dist.destroy_process_group()
