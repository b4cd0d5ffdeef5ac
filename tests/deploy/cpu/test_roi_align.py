import pytest
import torch
from detectron2.layers import ROIAlign
from detectron2.modeling.poolers import ROIPooler
from detectron2.structures import Boxes

from resnest_d2.deploy.cpu.roi_align import ChannelsLastPooler, roi_align

# across the border, outside, a sliver, a point, inverted, the whole image, tiny, and the lines that
# are left of boxes beyond a border when they are clipped to it
ODD = [
    [-30.0, -20.0, 40.0, 50.0],
    [200.0, 200.0, 260.0, 240.0],
    [5.0, 10.0, 90.0, 10.5],
    [30.0, 30.0, 30.0, 30.0],
    [50.0, 40.0, 20.0, 10.0],
    [0.0, 0.0, 128.0, 96.0],
    [64.2, 31.7, 65.1, 32.4],
    [128.0, 10.0, 128.0, 60.0],
    [10.0, 96.0, 60.0, 96.0],
]


def regions(number=40):
    torch.manual_seed(0)
    corner = torch.rand(number, 2) * torch.tensor([110.0, 80.0])
    boxes = torch.cat([corner, corner + torch.rand(number, 2) * 60], 1)
    boxes = torch.cat([boxes, torch.tensor(ODD)])
    image = torch.randint(0, 2, (len(boxes), 1)).float()
    return torch.cat([image, boxes], 1)


def on_one_level(features, regions, *, scale, **options):
    level_of = torch.zeros(len(regions))
    return roi_align([features], regions, level_of, scales=[scale], **options)


@pytest.mark.parametrize("size", [7, 14, 3])
@pytest.mark.parametrize("ratio", [0, 2])
@pytest.mark.parametrize("scale", [0.25, 0.0625])
def test_equals_detectron2s(size, ratio, scale):
    torch.manual_seed(1)
    features = torch.randn(2, 16, int(96 * scale), int(128 * scale))
    expected = ROIAlign(size, scale, ratio, aligned=True)(features, regions())
    features = features.contiguous(memory_format=torch.channels_last)
    found = on_one_level(features, regions(), scale=scale, size=size, sampling_ratio=ratio)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    assert found.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("ratio", [0, 2])
@pytest.mark.parametrize("box", ODD, ids=str)
def test_one_odd_region_alone(box, ratio):
    torch.manual_seed(1)
    features = torch.randn(1, 4, 24, 32)
    region = torch.tensor([[0.0, *box]])
    expected = ROIAlign(7, 0.25, ratio, aligned=True)(features, region)
    found = on_one_level(features, region, scale=0.25, size=7, sampling_ratio=ratio)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("number", [30, 1, 0])
def test_pooler_chooses_the_same_levels(number):
    torch.manual_seed(0)
    levels = [torch.randn(2, 8, 64 // 2**i, 96 // 2**i) for i in range(4)]
    pooler = ROIPooler(7, [1 / 4, 1 / 8, 1 / 16, 1 / 32], 0, "ROIAlignV2")
    boxes = []
    for _ in range(2):
        corner = torch.rand(number, 2) * 100
        boxes.append(Boxes(torch.cat([corner, corner + torch.rand(number, 2) * 300], 1)))
    found = ChannelsLastPooler(pooler)(levels, boxes)
    torch.testing.assert_close(found, pooler(levels, boxes), rtol=1e-5, atol=1e-5)
    assert found.shape == (2 * number, 8, 7, 7)


@pytest.mark.parametrize(
    ("pooler", "can"),
    [
        (ROIPooler(7, [0.25], 0, "ROIAlignV2"), True),
        (ROIPooler(7, [0.25], 0, "ROIAlign"), False),
        (ROIPooler((7, 5), [0.25], 0, "ROIAlignV2"), False),
        (torch.nn.Identity(), False),
    ],
)
def test_which_poolers_are_replaced(pooler, can):
    assert ChannelsLastPooler.can_replace(pooler) is can


@pytest.mark.parametrize(("dtype", "rounding"), [(torch.float32, 1e-4), (torch.bfloat16, 0.05)])
def test_gradients_are_detectron2s(dtype, rounding):
    torch.manual_seed(0)
    pooler = ROIPooler(7, [1 / 4, 1 / 8, 1 / 16], 0, "ROIAlignV2")
    levels = [torch.randn(2, 8, 96 // 2**i, 128 // 2**i, requires_grad=True) for i in range(3)]
    boxes = [Boxes(regions()[:, 1:] * scale) for scale in (1.0, 4.0)]
    down = torch.randn(2 * len(regions()), 8, 7, 7)
    expected = torch.autograd.grad((pooler(levels, boxes) * down).sum(), levels)
    # Under autocast detectron2's rounds the boxes too, by pixels in large images.
    with torch.autocast("cpu", enabled=dtype is torch.bfloat16):
        pooled = ChannelsLastPooler(pooler)([level.to(dtype) for level in levels], boxes)
    assert pooled.dtype == dtype
    assert pooled.is_contiguous(memory_format=torch.channels_last)
    found = torch.autograd.grad((pooled.float() * down).sum(), levels)
    for level, right in zip(found, expected, strict=True):
        assert right.abs().max() > 0.5
        torch.testing.assert_close(level, right, rtol=rounding, atol=rounding)


def test_empty_regions_have_a_gradient_of_zero():
    features = torch.randn(1, 4, 6, 8, requires_grad=True)
    nothing = on_one_level(features, torch.tensor([[0.0, 9, 9, 9, 9]]), scale=0.25, size=7)
    nothing.sum().backward()
    assert features.grad is not None and not features.grad.any()
