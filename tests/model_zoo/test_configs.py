"""Every config that ships: found, complete, the recipe's values, and at work at full size."""

import pytest
import torch
from detectron2.engine import DefaultPredictor
from detectron2.engine.defaults import DefaultTrainer
from detectron2.modeling import build_model
from detectron2.structures import BitMasks, Boxes, Instances
from detectron2.utils.events import EventStorage
from same import assert_same_detections

from resnest_d2 import get_cfg
from resnest_d2.deploy import optimize_for_inference
from resnest_d2.model_zoo import find_config, get_config, list_configs, load_config

SEED = [
    f"{folder}/{detector}_ResNeSt_{depth}_FPN_1x.yaml"
    for folder, detectors in (
        ("COCO-Detection", ("faster_rcnn", "cascade_rcnn")),
        ("COCO-InstanceSegmentation", ("mask_rcnn", "cascade_mask_rcnn")),
    )
    for detector in detectors
    for depth in (50, 101)
]


def test_the_seeds_eight_are_there():
    assert set(SEED) <= set(list_configs())
    assert not [name for name in list_configs() if "Base-" in name]


@pytest.mark.parametrize("name", SEED)
def test_recipe(name):
    cfg = get_config(name)
    cascade, mask = "cascade" in name, "mask" in name
    assert cfg.MODEL.RESNETS.DEPTH == (101 if "_101_" in name else 50)
    assert cfg.MODEL.RESNETS.STEM_OUT_CHANNELS == (128 if "_101_" in name else 64)
    assert cfg.MODEL.MASK_ON is mask and cfg.MODEL.BACKBONE.FREEZE_AT == 2
    assert (cfg.MODEL.RESNETS.NORM, cfg.MODEL.FPN.NORM) == ("SyncBN", "")
    heads = "CascadeMaskROIHeads" if cascade else "TwoSidedROIHeads"
    assert (cfg.MODEL.PROPOSAL_GENERATOR.NAME, cfg.MODEL.ROI_HEADS.NAME) == ("TwoSidedRPN", heads)
    assert cfg.INPUT.RESIZE == "cv2"
    head = cfg.MODEL.ROI_BOX_HEAD
    assert (head.NUM_CONV, head.NUM_FC, head.FC_DIM, head.NORM) == (4, 1, 1024, "SyncBN")
    assert cfg.MODEL.RPN.POST_NMS_TOPK_TRAIN == (2000 if cascade else 1000)
    assert cfg.MODEL.RPN.SMOOTH_L1_BETA == pytest.approx(1 / 9 if cascade else 0)
    assert head.SMOOTH_L1_BETA == (1 if cascade else 0)
    assert head.CLS_AGNOSTIC_BBOX_REG is cascade
    assert cfg.MODEL.PIXEL_MEAN == [123.68, 116.779, 103.939] and cfg.INPUT.FORMAT == "RGB"
    assert cfg.INPUT.MIN_SIZE_TRAIN_SAMPLING == ("choice" if mask else "range")
    assert len(cfg.INPUT.MIN_SIZE_TRAIN) == (6 if mask else 2)
    solver = cfg.SOLVER
    assert (solver.IMS_PER_BATCH, solver.BASE_LR, solver.WARMUP_ITERS) == (16, 0.02, 499)
    assert (solver.WEIGHT_DECAY, solver.WEIGHT_DECAY_NORM) == (1e-4, 1e-4)
    assert tuple(e / 7330 for e in (*solver.STEPS, solver.MAX_ITER)) == (8, 11, 12)


@pytest.mark.parametrize("name", [name for name in SEED if "cascade" in name])
def test_mmdetections_cascade(name):
    keys = get_config(name).MODEL.ROI_BOX_CASCADE_HEAD
    assert keys.STAGE_LOSS_WEIGHTS == (1, 0.5, 0.25) and keys.IOUS == (0.5, 0.6, 0.7)
    assert keys.RESAMPLE and keys.AVERAGE_LOGITS and keys.TWO_SIDED_CLAMP
    assert not keys.SCALE_FEATURE_GRADIENTS
    assert get_config(name).MODEL.ROI_MASK_HEAD.PER_STAGE is ("mask" in name)
    for weights, stds in zip(
        keys.BBOX_REG_WEIGHTS, ((0.1, 0.2), (0.05, 0.1), (0.033, 0.067)), strict=True
    ):
        assert [1 / w for w in weights] == pytest.approx([stds[0], stds[0], stds[1], stds[1]])


@pytest.mark.parametrize("name", [name for name in list_configs() if "_syncbn_" in name])
def test_the_authors_recipe(name):
    cfg = get_config(name)
    cascade = "cascade" in name or "panoptic" in name
    heads = "CascadeROIHeads" if cascade else "StandardROIHeads"
    assert (cfg.MODEL.PROPOSAL_GENERATOR.NAME, cfg.MODEL.ROI_HEADS.NAME) == ("RPN", heads)
    assert cfg.MODEL.RPN.POST_NMS_TOPK_TRAIN == (2000 if cascade else 1000)
    assert cfg.MODEL.RPN.SMOOTH_L1_BETA == cfg.MODEL.ROI_BOX_HEAD.SMOOTH_L1_BETA == 0
    assert cfg.MODEL.FPN.NORM == cfg.MODEL.RESNETS.NORM == cfg.MODEL.ROI_BOX_HEAD.NORM == "SyncBN"
    assert cfg.MODEL.MASK_ON is ("COCO-Detection" not in name)
    assert cfg.TEST.PRECISE_BN.ENABLED and cfg.INPUT.RESIZE == "pil"
    tricks, panoptic = "tricks" in name, "panoptic" in name
    assert cfg.SOLVER.MAX_ITER == (270000 if tricks else 90000)
    assert cfg.SOLVER.STEPS == ((240000, 255000) if tricks else (60000, 80000))
    assert cfg.SOLVER.WEIGHT_DECAY_NORM == 0 and cfg.SOLVER.WARMUP_ITERS == 1000
    assert cfg.MODEL.ROI_MASK_HEAD.NUM_CONV == (8 if "all_tricks" in name else 4)
    assert cfg.MODEL.ROI_MASK_HEAD.NORM == ("" if panoptic else "SyncBN")
    assert cfg.INPUT.CROP.ENABLED is ("all_tricks" in name)
    assert cfg.INPUT.MAX_SIZE_TRAIN == (1440 if tricks else 1333)
    if tricks:
        assert cfg.INPUT.MIN_SIZE_TRAIN == ((400, 1000) if panoptic else (640, 864))
    deformable = [False, True, True, True] if "_dcn_" in name else [False] * 4
    assert cfg.MODEL.RESNETS.DEFORM_ON_PER_STAGE == deformable
    if "_dcn_" in name:
        assert cfg.MODEL.RESNETS.DEFORM_MODULATED and cfg.MODEL.RESNETS.DEFORM_NUM_GROUPS == 2


def test_batch_and_learning_rate_follow_the_number_of_gpus():
    cfg = DefaultTrainer.auto_scale_workers(get_config(SEED[0]), 2)
    assert (cfg.SOLVER.IMS_PER_BATCH, cfg.SOLVER.BASE_LR) == (4, 0.005)
    assert cfg.SOLVER.MAX_ITER == 4 * 87960


@pytest.mark.parametrize("name", SEED)
def test_full_size_on_the_cpu(name, tmp_path):
    torch.manual_seed(0)
    cfg = get_config(name)
    cfg.MODEL.DEVICE, cfg.MODEL.WEIGHTS = "cpu", ""
    cfg.MODEL.RPN.BOUNDARY_THRESH = -1  # hardly an anchor is inside so small an image
    # fewer regions than in training, the network whole
    cfg.MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE, cfg.MODEL.RPN.POST_NMS_TOPK_TEST = 32, 100
    model = build_model(cfg)
    truth = Instances((96, 128))
    truth.gt_boxes = Boxes([[8, 8, 72, 80], [40, 20, 120, 60]])
    truth.gt_classes = torch.tensor([3, 17])
    if cfg.MODEL.MASK_ON:
        cfg.INPUT.MASK_FORMAT = "bitmask"
        truth.gt_masks = BitMasks(torch.rand(2, 96, 128) > 0.5)
    pixels = torch.randint(0, 256, (3, 96, 128)).float()
    with EventStorage():
        batch = [{"image": image, "instances": truth} for image in (pixels, 255 - pixels)]
        losses = model(batch)
    sum(losses.values()).backward()
    assert all(loss.isfinite() for loss in losses.values())
    frozen = ("backbone.bottom_up.stem", "backbone.bottom_up.res2")
    for parameter_name, parameter in model.named_parameters():
        if parameter_name.startswith(frozen):
            assert not parameter.requires_grad, parameter_name
        else:
            assert parameter.grad is not None and parameter.grad.abs().max() > 0, parameter_name

    cfg.MODEL.WEIGHTS = str(tmp_path / "weights.pth")
    torch.save({"model": model.state_dict()}, cfg.MODEL.WEIGHTS)
    cfg.INPUT.MIN_SIZE_TEST, cfg.MODEL.ROI_HEADS.SCORE_THRESH_TEST = 96, 0.0
    predictor, image = DefaultPredictor(cfg), pixels.permute(1, 2, 0).byte().numpy()
    found = predictor(image)["instances"]
    assert 0 < len(found) <= 100 and found.image_size == (96, 128)
    assert found.has("pred_masks") is cfg.MODEL.MASK_ON
    if cfg.MODEL.MASK_ON:
        assert found.pred_masks.shape[1:] == (96, 128)

    predictor.model = optimize_for_inference(predictor.model)
    assert_same_detections(predictor(image)["instances"], found)
    with torch.no_grad():
        fast, plain = predictor.model.backbone(pixels[None]), model.eval().backbone(pixels[None])
    for level, values in plain.items():
        assert (fast[level] - values).abs().max() < 1e-4 * values.abs().max(), level


def test_our_keys_change_no_default_of_detectron2():
    from detectron2.config import get_cfg as detectron2_cfg

    def check(theirs, ours):
        for key, value in theirs.items():
            check(value, ours[key]) if isinstance(value, dict) else None
            assert isinstance(value, dict) or ours[key] == value, key

    check(detectron2_cfg(), get_cfg())


def test_unknown_names_get_close_ones():
    with pytest.raises(FileNotFoundError, match="faster_rcnn_ResNeSt_50_FPN_1x.yaml"):
        find_config("COCO-Detection/faster_rcnn_resnest_50_fpn_1x.yml")


def test_a_config_cannot_run_code(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.yaml").write_text("OUTPUT_DIR: !!python/object/apply:open [ran, w]\n")
    with pytest.raises(ValueError, match="a.yaml"):
        load_config("a.yaml")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("opts", [["MODEL.RESNETS.RADIXX", 2], ["MODEL.RESNETS.RADIX", "two"]])
def test_wrong_keys_and_types_name_the_key(opts):
    with pytest.raises(ValueError, match="RADIX"):
        load_config(SEED[0], opts)


def test_opts_come_in_pairs():
    with pytest.raises(ValueError, match="pairs KEY VALUE"):
        load_config(SEED[0], ["MODEL.DEVICE"])
