"""Every key of the cascade alone, against what it says it changes."""

import copy

import pytest
import torch
from detectron2.modeling import GeneralizedRCNNWithTTA, build_model
from detectron2.structures import BitMasks, Boxes, Instances, pairwise_iou
from detectron2.utils.events import EventStorage

from resnest_d2.config import check_config
from resnest_d2.modeling import StageMaskHeads, TwoSidedBox2BoxTransform

CASCADE = "MODEL.ROI_BOX_CASCADE_HEAD"
ALL_KEYS = [
    *(f"{CASCADE}.STAGE_LOSS_WEIGHTS", (1.0, 0.5, 0.25)),
    *(f"{CASCADE}.RESAMPLE", True),
    *(f"{CASCADE}.AVERAGE_LOGITS", True),
    *(f"{CASCADE}.SCALE_FEATURE_GRADIENTS", False),
    *(f"{CASCADE}.TWO_SIDED_CLAMP", True),
    *("MODEL.ROI_MASK_HEAD.PER_STAGE", True),
]
SIZE = (64, 96)


@pytest.fixture
def cascade(rcnn_cfg):
    """A function that builds a cascade with keys set; always with the same weights."""

    def build(*opts, name="CascadeMaskROIHeads", mask=True):
        cfg = rcnn_cfg.clone()
        cfg.MODEL.MASK_ON = mask
        cfg.MODEL.ROI_HEADS.NAME = name
        cfg.MODEL.ROI_BOX_HEAD.CLS_AGNOSTIC_BBOX_REG = True
        cfg.merge_from_list(list(opts))
        torch.manual_seed(0)
        model = build_model(cfg)
        for predictor in model.roi_heads.box_predictor:  # so that boxes and scores are not alike
            torch.nn.init.normal_(predictor.bbox_pred.weight, std=0.05)
            torch.nn.init.normal_(predictor.cls_score.weight, std=0.1)
        model.cfg = cfg
        return model

    return build


def batch(numbers=(2, 3)):
    """Images with so many objects each."""
    generator = torch.Generator().manual_seed(1)
    inputs = []
    for number in numbers:
        corner = torch.rand(number, 2, generator=generator) * torch.tensor([50.0, 30.0])
        truth = Instances(SIZE)
        truth.gt_boxes = Boxes(torch.cat([corner, corner + 25], 1))
        truth.gt_classes = torch.arange(number) % 3
        truth.gt_masks = BitMasks(torch.rand(number, *SIZE, generator=generator) > 0.5)
        image = torch.rand(3, *SIZE, generator=generator) * 255
        inputs.append({"image": image, "instances": truth, "height": 64, "width": 96})
    return inputs


def losses_of(model, inputs=None):
    torch.manual_seed(2)
    with EventStorage() as storage:
        losses = model.train()(copy.deepcopy(inputs or batch()))
    return losses, storage


def detections(model, **fields):
    with torch.no_grad():
        return [found["instances"] for found in model.eval()(batch())]


def sampled(model, inputs=None):
    """The proposals of every stage in one training step."""
    heads, seen = model.roi_heads, []
    run_stage = heads._run_stage

    def spy(features, proposals, stage):
        seen.append(proposals)
        return run_stage(features, proposals, stage)

    heads._run_stage = spy
    losses_of(model, inputs)
    del heads._run_stage
    return seen


@pytest.mark.parametrize("mask", [False, True])
def test_defaults_are_detectron2s(cascade, mask):
    ours, theirs = cascade(mask=mask), cascade(name="CascadeROIHeads", mask=mask)
    assert ours.state_dict().keys() == theirs.state_dict().keys()
    expected, _ = losses_of(theirs)
    losses, _ = losses_of(ours)
    assert losses.keys() == expected.keys()
    torch.testing.assert_close(losses, expected, rtol=0, atol=0)
    for a, b in zip(detections(ours), detections(theirs), strict=True):
        assert len(a) > 0 and torch.equal(a.pred_boxes.tensor, b.pred_boxes.tensor)
        assert torch.equal(a.scores, b.scores)
        assert not mask or torch.equal(a.pred_masks, b.pred_masks)


def test_stage_loss_weights(cascade):
    weights = (1.0, 0.5, 0.25)
    plain, _ = losses_of(cascade("MODEL.ROI_MASK_HEAD.PER_STAGE", True))
    weighted, _ = losses_of(
        cascade(
            *("MODEL.ROI_MASK_HEAD.PER_STAGE", True),
            *(f"{CASCADE}.STAGE_LOSS_WEIGHTS", weights),
        )
    )
    for stage, weight in enumerate(weights):
        for name in ("loss_cls", "loss_box_reg", "loss_mask"):
            key = f"{name}_stage{stage}"
            torch.testing.assert_close(weighted[key], weight * plain[key])
    assert torch.equal(weighted["loss_rpn_cls"], plain["loss_rpn_cls"])


def test_stage_loss_weights_must_be_as_many_as_stages(cascade):
    with pytest.raises(ValueError, match=r"STAGE_LOSS_WEIGHTS \(1.0, 0.5\).*IOUS has 3"):
        cascade(f"{CASCADE}.STAGE_LOSS_WEIGHTS", (1.0, 0.5))


def test_resample(cascade):
    model = cascade(f"{CASCADE}.RESAMPLE", True)
    inputs = batch()
    stages = sampled(model, inputs)
    assert len(stages) == 3
    for proposals, threshold in zip(stages, (0.5, 0.6, 0.7), strict=True):
        for found, truth in zip(proposals, (i["instances"] for i in inputs), strict=True):
            assert len(found) <= 32
            boxes, truths = found.proposal_boxes.tensor, truth.gt_boxes.tensor
            copies = (boxes[:, None] == truths[None]).all(-1).sum(0)
            assert copies.tolist() == [1] * len(truth)  # as they are, and not refined twice
            overlap = pairwise_iou(found.proposal_boxes, truth.gt_boxes).max(1)[0]
            assert torch.equal(found.gt_classes < 3, overlap >= threshold)
    # with few regions going in, sampling keeps to its number; refining alone keeps them all
    model.roi_heads.batch_size_per_image = 8
    assert [len(p) for p in sampled(model)[2]] == [8, 8]


def test_without_resampling_all_regions_go_on(cascade):
    first, second, third = sampled(cascade())
    for a, b, c in zip(first, second, third, strict=True):
        assert len(a) >= len(b) >= len(c) > 0.8 * len(a)


def test_resampling_leaves_the_first_matcher(cascade):
    model = cascade(f"{CASCADE}.RESAMPLE", True)
    losses_of(model)
    assert model.roi_heads.proposal_matcher is model.roi_heads.proposal_matchers[0]


@pytest.mark.parametrize("average_logits", [False, True])
def test_average_logits(cascade, average_logits):
    opts = ["MODEL.ROI_HEADS.SCORE_THRESH_TEST", 1e-4]
    model = cascade(f"{CASCADE}.AVERAGE_LOGITS", average_logits, *opts, mask=False)
    logits = []
    for predictor in model.roi_heads.box_predictor:
        predictor.register_forward_hook(lambda m, x, output: logits.append(output[0]))
    found = detections(model)
    of_logits = torch.stack(logits).mean(0).softmax(1)[:, :-1]
    of_probs = torch.stack(logits).softmax(2).mean(0)[:, :-1]
    expected, other = (of_logits, of_probs) if average_logits else (of_probs, of_logits)

    def distance(scores, among):
        return (scores[:, None] - among.flatten()[None]).abs().min(1)[0]

    scores = torch.cat([f.scores for f in found])
    assert distance(scores, expected).max() < 1e-6
    assert distance(scores, other).median() > 1e-6


@pytest.mark.parametrize(("scale", "factor"), [(True, 1 / 3), (False, 1.0)])
def test_scale_feature_gradients(cascade, scale, factor):
    model = cascade(f"{CASCADE}.SCALE_FEATURE_GRADIENTS", scale, mask=False)
    pooled = []
    model.roi_heads.box_pooler.register_forward_hook(lambda m, x, y: pooled.append(y))
    inside = []
    model.roi_heads.box_head[0].register_forward_pre_hook(lambda m, x: inside.append(x[0]))
    losses, _ = losses_of(model)
    # the gradient before the scaling, and after it
    before, after = torch.autograd.grad(losses["loss_cls_stage0"], [inside[0], pooled[0]])
    assert before.abs().max() > 0
    torch.testing.assert_close(after, before * factor)


def test_two_sided_clamp(cascade):
    on, off = cascade(f"{CASCADE}.TWO_SIDED_CLAMP", True), cascade()
    box, delta = torch.tensor([[0.0, 0.0, 100.0, 100.0]]), torch.tensor([[0.0, 0, -999, 0]])
    for model, width in ((on, 1.6), (off, 0.0)):
        for predictor, weights in zip(
            model.roi_heads.box_predictor, ((10, 5), (20, 10), (30, 15)), strict=True
        ):
            transform = predictor.box2box_transform
            assert (transform.weights[0], transform.weights[2]) == weights
            assert isinstance(transform, TwoSidedBox2BoxTransform) is (model is on)
            decoded = transform.apply_deltas(delta, box)
            assert (decoded[0, 2] - decoded[0, 0]).item() == pytest.approx(width, abs=1e-4)


def test_masks_per_stage_train_on_their_stage(cascade):
    model = cascade("MODEL.ROI_MASK_HEAD.PER_STAGE", True, f"{CASCADE}.RESAMPLE", True)
    regions = []
    for head in model.roi_heads.mask_head:
        head.register_forward_hook(lambda m, x, y: regions.append(x[1]))
    stages = sampled(model)
    for seen, proposals in zip(regions, stages, strict=True):
        for a, b in zip(seen, proposals, strict=True):
            positive = b[b.gt_classes < 3]
            assert len(positive) > 0
            assert torch.equal(a.proposal_boxes.tensor, positive.proposal_boxes.tensor)
            assert torch.equal(a.gt_masks.tensor, positive.gt_masks.tensor)


def test_masks_per_stage_without_resampling_have_their_own_truth(cascade):
    model = cascade("MODEL.ROI_MASK_HEAD.PER_STAGE", True)
    inputs = batch()
    losses, _ = losses_of(model, inputs)
    assert {k for k in losses if "mask" in k} == {f"loss_mask_stage{s}" for s in range(3)}
    for found, truth in zip(sampled(model, inputs)[2], inputs, strict=True):
        truth = truth["instances"]
        matched = pairwise_iou(truth.gt_boxes, found.proposal_boxes).max(0)[1]
        assert torch.equal(found.gt_masks.tensor, truth.gt_masks.tensor[matched])


def test_masks_per_stage_are_averaged(cascade):
    model = cascade("MODEL.ROI_MASK_HEAD.PER_STAGE", True)
    heads = model.roi_heads.mask_head
    assert isinstance(heads, StageMaskHeads) and len(heads) == 3
    biases = torch.tensor([-2.0, 0.5, 3.0])
    for head, bias in zip(heads, biases, strict=True):
        torch.nn.init.zeros_(head.predictor.weight)
        torch.nn.init.constant_(head.predictor.bias, bias)
    with torch.no_grad():
        found = model.eval().inference(batch(), do_postprocess=False)
    masks = torch.cat([f.pred_masks for f in found])
    torch.testing.assert_close(masks, torch.full_like(masks, biases.sigmoid().mean()))


def test_masks_per_stage_need_pooled_features(cascade):
    with pytest.raises(ValueError, match="PER_STAGE needs pooled features"):
        cascade("MODEL.ROI_MASK_HEAD.PER_STAGE", True, "MODEL.ROI_MASK_HEAD.POOLER_TYPE", "")


@pytest.mark.parametrize("numbers", [(2, 0), (0, 0)])
@pytest.mark.parametrize("opts", [[], ALL_KEYS], ids=["defaults", "all keys"])
def test_images_without_objects(cascade, opts, numbers):
    losses, _ = losses_of(cascade(*opts), batch(numbers))
    assert all(loss.isfinite() for loss in losses.values())
    assert losses["loss_cls_stage2"] > 0
    sum(losses.values()).backward()


@pytest.mark.parametrize("opts", [[], ALL_KEYS], ids=["defaults", "all keys"])
def test_no_detections(cascade, opts):
    model = cascade(*opts, "MODEL.ROI_HEADS.SCORE_THRESH_TEST", 1.0)
    for found in detections(model):
        assert len(found) == 0 and found.pred_masks.shape == (0, *SIZE)


def test_all_keys_train_every_parameter(cascade):
    model = cascade(*ALL_KEYS)
    losses, _ = losses_of(model)
    sum(losses.values()).backward()
    assert not [n for n, p in model.named_parameters() if p.grad is None or not p.grad.any()]


def test_keypoints_beside(cascade):
    model = cascade(*ALL_KEYS, "MODEL.KEYPOINT_ON", True, mask=False)
    found = detections(model)[0]
    assert found.pred_keypoints.shape == (len(found), 17, 3)


@pytest.mark.parametrize("mask", [False, True])
def test_test_time_augmentation(cascade, mask):
    model = cascade(*ALL_KEYS, "TEST.AUG.MIN_SIZES", (48, 64), mask=mask).eval()
    with torch.no_grad():
        (found,) = GeneralizedRCNNWithTTA(model.cfg, model)(batch()[:1])
    assert len(found["instances"]) > 0
    assert found["instances"].has("pred_masks") is mask
    assert model.roi_heads.mask_on is mask  # which it switches off in between


def test_traces(cascade):
    from detectron2.export import TracingAdapter

    model = cascade(*ALL_KEYS).eval()

    def inference(model, inputs):
        return [{"instances": i} for i in model.inference(inputs, do_postprocess=False)]

    image = batch()[0]["image"]
    with torch.no_grad():
        adapter = TracingAdapter(model, [{"image": image}], inference)
        traced = torch.jit.trace(adapter, (image,), check_trace=False)
        other = batch()[1]["image"]
        torch.testing.assert_close(traced(other), adapter(other))


@pytest.mark.parametrize("key", ALL_KEYS[::2])
def test_keys_that_other_heads_would_ignore(rcnn_cfg, key):
    value = ALL_KEYS[ALL_KEYS.index(key) + 1]
    rcnn_cfg.MODEL.ROI_HEADS.NAME = "CascadeROIHeads"
    rcnn_cfg.merge_from_list([key, value])
    with pytest.raises(ValueError, match=f"{key} is .*NAME is CascadeROIHeads, which does not"):
        check_config(rcnn_cfg)
