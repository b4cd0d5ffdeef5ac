"""The graph of a training step is freed with it; else the memory of a run grows without end."""

import gc
import weakref

import pytest
import torch
from detectors import KINDS, set_kind
from detectron2.modeling import build_model
from detectron2.structures import BitMasks, Boxes, Instances
from detectron2.utils.events import EventStorage

from resnest_d2.engine.trainer import Trainer
from resnest_d2.model_zoo import get_config, list_configs

# One size of each recipe.
RECIPES = {
    name.replace("_101_", "_50_").replace("_26_", "_14_"): name for name in list_configs()
}.values()


def trained(cfg, build=build_model):
    """References to the weights of a detector after a step; the graph holds them, too."""
    torch.manual_seed(0)
    truth = Instances((64, 96))
    truth.gt_boxes, truth.gt_classes = Boxes([[8.0, 8.0, 60.0, 50.0]]), torch.tensor([1])
    truth.gt_masks = BitMasks(torch.rand(1, 64, 96) > 0.5)
    image = {"image": torch.rand(3, 64, 96) * 255, "instances": truth}
    image["sem_seg"] = torch.randint(0, 54, (64, 96))
    model = build(cfg).train()
    with EventStorage():
        losses = model([image] * 2)
    sum(losses.values()).backward()
    return [weakref.ref(parameter) for parameter in model.parameters()]


def kept(references):
    gc.collect()  # the model itself has cycles
    return sum(reference() is not None for reference in references)


@pytest.mark.parametrize("name", RECIPES)
def test_of_every_recipe(name):
    cfg = get_config(name)
    cfg.MODEL.DEVICE, cfg.INPUT.MASK_FORMAT = "cpu", "bitmask"
    cfg.MODEL.RESNETS.DEPTH, cfg.MODEL.FPN.OUT_CHANNELS = 14, 32
    cfg.MODEL.ROI_BOX_HEAD.CONV_DIM = cfg.MODEL.ROI_BOX_HEAD.FC_DIM = 32
    cfg.MODEL.RPN.POST_NMS_TOPK_TRAIN = cfg.MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE = 16
    assert kept(trained(cfg)) == 0


@pytest.mark.parametrize("recomputed", ["none", "light", "block"])
@pytest.mark.parametrize("kind", KINDS)
def test_of_every_kind_as_it_is_trained(kind, recomputed, rcnn_cfg):
    cfg = set_kind(rcnn_cfg, kind)
    cfg.INPUT.MASK_FORMAT, cfg.MODEL.RESNETS.ACTIVATION_CHECKPOINT = "bitmask", recomputed
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=recomputed == "light"):
        references = trained(cfg, Trainer.build_model)
    assert kept(references) == 0


def test_of_retinanet(rcnn_cfg):
    cfg = rcnn_cfg
    cfg.MODEL.META_ARCHITECTURE, cfg.INPUT.MASK_FORMAT = "RetinaNet", "bitmask"
    cfg.MODEL.BACKBONE.NAME = "build_retinanet_resnest_fpn_backbone"
    cfg.MODEL.FPN.IN_FEATURES, cfg.MODEL.RETINANET.NUM_CLASSES = ["res3", "res4", "res5"], 3
    assert kept(trained(cfg, Trainer.build_model)) == 0
