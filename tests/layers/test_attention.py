import copy
import io

import pytest
import torch
from torch.utils.checkpoint import checkpoint

from resnest_d2.layers import SplitAttentionConv2d, split_attention, weighted_sum
from resnest_d2.layers.attention import pool_splits

RADIX = pytest.mark.parametrize("radix", [1, 2, 4])
GROUPS = pytest.mark.parametrize("groups", [1, 2])
LAYOUT = pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])


def naive(x, weights):
    splits = x.split(x.shape[1] // weights.shape[1], dim=1)
    return sum(split * weights[:, r] for r, split in enumerate(splits))


def example(radix, *, layout=torch.contiguous_format, dtype=torch.float32, size=(3, 5, 4, 3)):
    torch.manual_seed(0)
    n, c, h, w = size
    x = torch.randn(n, radix * c, h, w, dtype=dtype).to(memory_format=layout)
    logits = torch.randn(n, radix, c, 1, 1, dtype=dtype)
    return x.requires_grad_(), logits.requires_grad_()


def attend(logits):
    return logits.softmax(1) if logits.shape[1] > 1 else logits.sigmoid()


@RADIX
@LAYOUT
def test_values_and_gradients_equal_the_naive_sum(radix, layout):
    x, logits = example(radix, layout=layout)
    ours, expected = weighted_sum(x, attend(logits)), naive(x, attend(logits))
    torch.testing.assert_close(ours, expected)
    torch.testing.assert_close(weighted_sum(x.detach(), attend(logits.detach())), expected.detach())
    assert ours.is_contiguous(memory_format=layout)
    grad = torch.randn_like(ours)
    ours = torch.autograd.grad(ours, (x, logits), grad)
    assert ours[0].is_contiguous(memory_format=layout)
    torch.testing.assert_close(ours, torch.autograd.grad(expected, (x, logits), grad))


@RADIX
@LAYOUT
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_pooling_is_the_mean_to_the_bit(radix, layout, dtype):
    x, _ = example(radix, layout=layout, dtype=dtype)
    splits = x.unflatten(1, (radix, -1))
    ours, expected = pool_splits(splits), splits.mean((3, 4)).sum(1)[..., None, None]
    assert torch.equal(ours, expected)
    assert torch.equal(pool_splits(splits.detach()), expected)
    grad = torch.randn_like(ours)
    (gradient,) = torch.autograd.grad(ours, splits, grad, retain_graph=True)
    assert gradient.stride()[3:] == (0, 0)  # it is never written as a map
    assert torch.equal(gradient, torch.autograd.grad(expected, splits, grad, retain_graph=True)[0])
    both = [y + x.square().sum() for y in (ours, expected)]  # another gradient is added to it
    first, second = (torch.autograd.grad(y, x, grad)[0] for y in both)
    assert torch.equal(first, second) and first.is_contiguous(memory_format=layout)


def test_gradients_of_the_pooling_of_both_orders_are_numerically_right():
    x = torch.randn(2, 2, 3, 2, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(pool_splits, x)
    assert torch.autograd.gradgradcheck(lambda x: pool_splits(x) ** 2, x)


@RADIX
def test_gradients_of_both_orders_are_numerically_right(radix):
    x, logits = example(radix, dtype=torch.float64, size=(2, 3, 2, 2))

    def function(x, logits):
        return weighted_sum(x, attend(logits))

    assert torch.autograd.gradcheck(function, (x, logits))
    assert torch.autograd.gradgradcheck(function, (x, logits))


@RADIX
@GROUPS
def test_layer_passes_gradcheck(radix, groups):
    torch.manual_seed(0)
    layer = SplitAttentionConv2d(8, 8, radix=radix, groups=groups).double()
    x = torch.randn(2, 8, 3, 3, dtype=torch.float64, requires_grad=True)
    parameters = [layer.bn0.weight, layer.fc2.weight]
    assert torch.autograd.gradcheck(lambda x, *_: layer(x), (x, *parameters), fast_mode=True)


def test_it_is_the_backward_pass_that_training_takes_and_keeps_two_tensors():
    x, logits = example(2)
    weights, saved = attend(logits), []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: saved.append(t) or t, lambda t: t):
        out = weighted_sum(x, weights)
    assert out.grad_fn.name() == "_WeightedSumBackward"
    assert [t.data_ptr() for t in saved] == [x.data_ptr(), weights.data_ptr()]
    with torch.no_grad():
        assert weighted_sum(x, weights).grad_fn is None


@pytest.mark.parametrize("needs", ["x", "attention"])
def test_only_one_needs_a_gradient(needs):
    x, logits = example(2)
    weights = attend(logits.detach()).requires_grad_(needs == "attention")
    x = x.detach().requires_grad_(needs == "x")
    leaf = x if needs == "x" else weights
    (ours,) = torch.autograd.grad(weighted_sum(x, weights).sum(), leaf)
    torch.testing.assert_close(ours, torch.autograd.grad(naive(x, weights).sum(), leaf)[0])


@RADIX
def test_autocast_gives_the_gradients_of_the_plain_form(radix, monkeypatch):
    torch.manual_seed(0)
    ours = SplitAttentionConv2d(64, 64, radix=radix)
    plain, x = copy.deepcopy(ours), torch.randn(2, 64, 9, 9)
    grad = torch.randn(2, 64, 9, 9)
    outputs = []
    for layer, function in ((ours, weighted_sum), (plain, naive)):
        monkeypatch.setattr(split_attention, "weighted_sum", function)
        with torch.autocast("cpu", torch.bfloat16):
            outputs.append(layer(x))
        outputs[-1].float().backward(grad)
    assert outputs[0].dtype == torch.bfloat16
    torch.testing.assert_close(outputs[0].float(), outputs[1].float(), atol=0.02, rtol=0.02)
    for name in ("conv.weight", "bn0.weight", "fc2.weight"):
        grads = [layer.get_parameter(name).grad.flatten() for layer in (ours, plain)]
        assert torch.cosine_similarity(*grads, dim=0) > 0.999, name


@RADIX
def test_compiles_without_a_graph_break(radix):
    torch.manual_seed(0)
    layer = SplitAttentionConv2d(16, 16, radix=radix)
    x = torch.randn(2, 16, 5, 5, requires_grad=True)
    torch._dynamo.reset()
    compiled = torch.compile(layer, backend="aot_eager", fullgraph=True)
    ours, expected = compiled(x), layer(x)
    torch.testing.assert_close(ours, expected)
    ours, expected = (torch.autograd.grad(y.square().sum(), x)[0] for y in (ours, expected))
    torch.testing.assert_close(ours, expected)


@RADIX
@pytest.mark.parametrize("grad", [False, True])
def test_traces_to_operators_that_can_be_saved(radix, grad):
    torch.manual_seed(0)
    layer = SplitAttentionConv2d(16, 16, radix=radix).eval()
    x = torch.randn(2, 16, 5, 5)
    with torch.set_grad_enabled(grad):
        traced = torch.jit.trace(layer, x)
    file = io.BytesIO()
    torch.jit.save(traced, file)
    file.seek(0)
    torch.testing.assert_close(torch.jit.load(file)(x), layer(x))


@RADIX
def test_scripts(radix):
    from detectron2.export.torchscript_patch import patch_nonscriptable_classes

    patch_nonscriptable_classes()
    torch.manual_seed(0)
    layer = SplitAttentionConv2d(16, 16, radix=radix).eval()
    x = torch.randn(2, 16, 5, 5)
    torch.testing.assert_close(torch.jit.script(layer)(x), layer(x))


@RADIX
@pytest.mark.parametrize("reentrant", [False, True])
def test_recomputed_gradients_are_the_same(radix, reentrant):
    x, logits = example(radix)
    expected = torch.autograd.grad(naive(x, attend(logits)).square().sum(), (x, logits))
    out = checkpoint(weighted_sum, x, attend(logits), use_reentrant=reentrant)
    out.square().sum().backward()
    torch.testing.assert_close((x.grad, logits.grad), expected)


def test_no_images():
    x = torch.zeros(0, 8, 4, 4, requires_grad=True)
    weights = torch.zeros(0, 2, 4, 1, 1, requires_grad=True)
    out = weighted_sum(x, weights)
    assert out.shape == (0, 4, 4, 4)
    out.sum().backward()
    assert x.grad.shape == x.shape and weights.grad.shape == weights.shape
