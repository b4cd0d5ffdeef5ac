import copy

import torch
from detectron2.structures import Boxes, Instances, PolygonMasks

from resnest_d2.deploy.cpu.layout import use_channels_last
from resnest_d2.engine import Trainer


def batch():
    torch.manual_seed(0)
    truth = Instances((64, 96))
    truth.gt_boxes = Boxes(torch.tensor([[4.0, 6, 40, 50], [50, 10, 90, 60]]))
    truth.gt_classes = torch.tensor([0, 1])
    truth.gt_masks = PolygonMasks([[[4, 6, 40, 6, 40, 50.0]], [[50, 10, 90, 10, 90, 60.0]]])
    return [{"image": torch.rand(3, 64, 96) * 255, "instances": truth} for _ in range(2)]


def train(model):
    """Losses and gradients of a step."""
    from detectron2.utils.events import EventStorage

    model.train().zero_grad()
    torch.manual_seed(0)
    with EventStorage():
        losses = model(batch())
    sum(losses.values()).backward()
    return losses, {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


def test_a_trainer_computes_the_same_in_channels_last(rcnn_cfg):
    model = Trainer.build_model(rcnn_cfg)
    plain = copy.deepcopy(model)
    plain.backbone._forward_pre_hooks.clear()
    seen = []
    for detector in (plain, model):
        detector.roi_heads.mask_head.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
        detector.proposal_generator.register_forward_hook(
            lambda _, args, __: seen.extend(args[1].values())
        )
    losses, gradients = train(plain)
    ours, our_gradients = train(model)
    half = len(seen) // 2
    assert not any(x.is_contiguous(memory_format=torch.channels_last) for x in seen[: half - 1])
    assert all(x.is_contiguous(memory_format=torch.channels_last) for x in seen[half:])
    torch.testing.assert_close(ours, losses, rtol=1e-4, atol=1e-5)
    assert our_gradients.keys() == gradients.keys()
    for name, gradient in gradients.items():
        near = 1e-2 * gradient.abs().max().item() + 1e-5  # batch norms of few values magnify errors
        torch.testing.assert_close(our_gradients[name], gradient, rtol=0, atol=near)
    assert all(p.is_contiguous() for p in model.state_dict().values())


def test_a_model_without_a_backbone_stays():
    layer = torch.nn.Linear(2, 3)
    assert use_channels_last(layer) is layer and not layer._forward_pre_hooks
