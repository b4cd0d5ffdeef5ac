"""Names and shapes of the published files, written down beside the package's own rules."""

import torch

BLOCKS = {
    14: (1, 1, 1, 1),
    26: (2, 2, 2, 2),
    50: (3, 4, 6, 3),
    101: (3, 4, 23, 3),
    200: (3, 24, 36, 3),
    269: (3, 30, 48, 8),
}
# layout: (stem's convolutions, their norms, name of a stage counted from 1, parts of a block)
WORDS = {
    "torch": ("conv1.{}", ("conv1.1", "conv1.4", "bn1"), "layer{}"),
    "mmdetection": ("stem.{}", ("stem.1", "stem.4", "stem.7"), "layer{}"),
    "detectron2": ("stem.conv1_{}", tuple(f"stem.conv1_{i}.norm" for i in (1, 2, 3)), "res{}"),
}
THEIR_PARTS = {"norm1": "bn1", "norm3": "bn3", "cut": "downsample.1", "cut_norm": "downsample.2"}
OUR_PARTS = {
    "norm1": "conv1.norm",
    "norm3": "conv3.norm",
    "cut": "shortcut",
    "cut_norm": "shortcut.norm",
}


class Names(dict):
    """name: shape; ``prefix`` stands before those added."""

    def __init__(self, counters=True):
        super().__init__()
        self.prefix, self.counters = "", counters

    def norm(self, name, channels):
        for leaf in ("weight", "bias", "running_mean", "running_var"):
            self[f"{self.prefix}{name}.{leaf}"] = (channels,)
        if self.counters:
            self[f"{self.prefix}{name}.num_batches_tracked"] = ()

    def layer(self, name, *shape, bias=False):
        self[f"{self.prefix}{name}.weight"] = shape
        if bias:
            self[f"{self.prefix}{name}.bias"] = (shape[0],)


def add_backbone(names, depth, layout, *, deformable=False):
    """ResNeSt of radix 2; ``deformable`` is the authors' DCNv2 in res3 to res5, two groups."""
    stem, norms, stage_name = WORDS[layout]
    parts = OUR_PARTS if layout == "detectron2" else THEIR_PARTS
    numbers = (1, 2, 3) if layout == "detectron2" else (0, 3, 6)
    half = 64 if depth > 50 else 32
    for number, norm, shape in zip(
        numbers, norms, ((half, 3), (half, half), (2 * half, half)), strict=True
    ):
        names.layer(stem.format(number), *shape, 3, 3)
        names.norm(norm, shape[0])
    inside = 2 * half
    for stage, count in enumerate(BLOCKS[depth]):
        width, outside = 64 * 2**stage, 256 * 2**stage
        hidden = max(width * 2 // 4, 32)
        for block in range(count):
            at = f"{stage_name.format(stage + (2 if layout == 'detectron2' else 1))}.{block}"
            names.layer(f"{at}.conv1", width, inside, 1, 1)
            names.norm(f"{at}.{parts['norm1']}", width)
            if deformable and stage:
                names.layer(f"{at}.conv2_offset", 54, width // 2, 3, 3, bias=True)
            names.layer(f"{at}.conv2.conv", 2 * width, width // 2, 3, 3)
            names.norm(f"{at}.conv2.bn0", 2 * width)
            names.layer(f"{at}.conv2.fc1", hidden, width, 1, 1, bias=True)
            names.norm(f"{at}.conv2.bn1", hidden)
            names.layer(f"{at}.conv2.fc2", 2 * width, hidden, 1, 1, bias=True)
            names.layer(f"{at}.conv3", outside, width, 1, 1)
            names.norm(f"{at}.{parts['norm3']}", outside)
            if block == 0:
                names.layer(f"{at}.{parts['cut']}", outside, inside, 1, 1)
                names.norm(f"{at}.{parts['cut_norm']}", outside)
            inside = outside


def imagenet(depth):
    """The authors' and timm's classifiers."""
    names = Names()
    add_backbone(names, depth, "torch")
    names.layer("fc", 1000, 2048, bias=True)
    return names


def mmdetection(depth, *, cascade=False, mask=False):
    """mmdetection's published detectors."""
    names = Names()
    names.prefix = "backbone."
    add_backbone(names, depth, "mmdetection")
    names.prefix = ""
    for level in range(4):
        names.layer(f"neck.lateral_convs.{level}.conv", 256, 256 * 2**level, 1, 1, bias=True)
        names.layer(f"neck.fpn_convs.{level}.conv", 256, 256, 3, 3, bias=True)
    for name, out, size in (("conv", 256, 3), ("cls", 3, 1), ("reg", 12, 1)):
        names.layer(f"rpn_head.rpn_{name}", out, 256, size, size, bias=True)
    for stage in (".0", ".1", ".2") if cascade else ("",):
        box = f"roi_head.bbox_head{stage}"
        for i in range(4):
            names.layer(f"{box}.shared_convs.{i}.conv", 256, 256, 3, 3)
            names.norm(f"{box}.shared_convs.{i}.bn", 256)
        names.layer(f"{box}.shared_fcs.0", 1024, 12544, bias=True)
        names.layer(f"{box}.fc_cls", 81, 1024, bias=True)
        names.layer(f"{box}.fc_reg", 4 if cascade else 320, 1024, bias=True)
        if mask:
            head = f"roi_head.mask_head{stage}"
            for i in range(4):
                names.layer(f"{head}.convs.{i}.conv", 256, 256, 3, 3)
                names.norm(f"{head}.convs.{i}.bn", 256)
            names.layer(f"{head}.upsample", 256, 256, 2, 2, bias=True)
            names.layer(f"{head}.conv_logits", 80, 256, 1, 1, bias=True)
    return names


def authors(depth, *, cascade=False, mask=0, deformable=False, panoptic=False):
    """The authors' detectors; ``mask`` is the number of convolutions in the mask head."""
    names = Names(counters=False)
    names.prefix = "backbone.bottom_up."
    add_backbone(names, depth, "detectron2", deformable=deformable)
    names.prefix = ""
    for level in range(4):
        at = f"backbone.fpn_lateral{level + 2}"
        names.layer(at, 256, 256 * 2**level, 1, 1)
        names.norm(f"{at}.norm", 256)
        names.layer(f"backbone.fpn_output{level + 2}", 256, 256, 3, 3)
        names.norm(f"backbone.fpn_output{level + 2}.norm", 256)
    for name, out, size in (
        ("conv", 256, 3),
        ("objectness_logits", 3, 1),
        ("anchor_deltas", 12, 1),
    ):
        names.layer(f"proposal_generator.rpn_head.{name}", out, 256, size, size, bias=True)
    for stage in (".0", ".1", ".2") if cascade else ("",):
        for i in range(1, 5):
            names.layer(f"roi_heads.box_head{stage}.conv{i}", 256, 256, 3, 3)
            names.norm(f"roi_heads.box_head{stage}.conv{i}.norm", 256)
        names.layer(f"roi_heads.box_head{stage}.fc1", 1024, 12544, bias=True)
        names.layer(f"roi_heads.box_predictor{stage}.cls_score", 81, 1024, bias=True)
        boxes = 4 if cascade else 320
        names.layer(f"roi_heads.box_predictor{stage}.bbox_pred", boxes, 1024, bias=True)
    for i in range(1, mask + 1):
        names.layer(f"roi_heads.mask_head.mask_fcn{i}", 256, 256, 3, 3, bias=panoptic)
        if not panoptic:  # whose mask head has no norms
            names.norm(f"roi_heads.mask_head.mask_fcn{i}.norm", 256)
    if mask:
        names.layer("roi_heads.mask_head.deconv", 256, 256, 2, 2, bias=True)
        names.layer("roi_heads.mask_head.predictor", 80, 256, 1, 1, bias=True)
    if panoptic:
        for level, convs in zip(("p2", "p3", "p4", "p5"), (1, 1, 2, 3), strict=True):
            for i in range(convs):  # every second module of a scale is an upsampling
                at = f"sem_seg_head.{level}.{2 * i}"
                names.layer(at, 128, 256 if i == 0 else 128, 3, 3)
                names.norm(f"{at}.norm", 128)
        names.layer("sem_seg_head.predictor", 54, 128, 1, 1, bias=True)
    return names


# Every published detector: the function above, and its arguments.
DETECTORS = {
    **{
        f"{kind}_s{depth}": (mmdetection, depth, {"cascade": "cascade" in kind, "mask": mask})
        for kind, mask in (
            ("faster_rcnn", False),
            ("mask_rcnn", True),
            ("cascade_rcnn", False),
            ("cascade_mask_rcnn", True),
        )
        for depth in (50, 101)
    },
    "faster_rcnn_ResNeSt_50_FPN_syncbn_range-scale_1x": (authors, 50, {}),
    "faster_rcnn_ResNeSt_50_FPN_dcn_syncbn_range-scale_1x": (authors, 50, {"deformable": True}),
    "faster_rcnn_ResNeSt_101_FPN_syncbn_range-scale_1x": (authors, 101, {}),
    "faster_cascade_rcnn_ResNeSt_50_FPN_syncbn_range-scale-1x": (authors, 50, {"cascade": True}),
    "faster_cascade_rcnn_ResNeSt_101_FPN_syncbn_range-scale_1x": (authors, 101, {"cascade": True}),
    "faster_cascade_rcnn_ResNeSt_200_FPN_syncbn_range-scale_1x": (authors, 200, {"cascade": True}),
    "mask_rcnn_ResNeSt_50_FPN_syncBN_1x": (authors, 50, {"mask": 4}),
    "mask_rcnn_ResNeSt_101_FPN_syncBN_1x": (authors, 101, {"mask": 4}),
    "mask_cascade_rcnn_ResNeSt_50_FPN_syncBN_1x": (authors, 50, {"cascade": True, "mask": 4}),
    "mask_cascade_rcnn_ResNeSt_101_FPN_syncBN_1x": (authors, 101, {"cascade": True, "mask": 4}),
    "mask_cascade_rcnn_ResNeSt_200_FPN_syncBN_all_tricks_3x": (
        authors,
        200,
        {"cascade": True, "mask": 8},
    ),
    "mask_cascade_rcnn_ResNeSt_200_FPN_dcn_syncBN_all_tricks_3x": (
        authors,
        200,
        {"cascade": True, "mask": 8, "deformable": True},
    ),
    "panoptic_ResNeSt_200_FPN_syncBN_tricks_3x": (
        authors,
        200,
        {"cascade": True, "mask": 4, "panoptic": True},
    ),
}


def detector(name):
    """Names and shapes of a published detector's file."""
    function, depth, options = DETECTORS[name]
    return function(depth, **options)


def fill(shapes):
    """A tensor for every name, of one stored number each, so that the file is small."""
    return {
        name: torch.zeros((), dtype=torch.int64)
        if name.endswith("num_batches_tracked")
        else torch.tensor(0.5).expand(shape)
        for name, shape in shapes.items()
    }


def save(path, name):
    """Write a published detector's file as its publisher did."""
    weights = fill(detector(name))
    wrapped = {"meta": {"epoch": 12}, "state_dict": weights}
    torch.save(wrapped if DETECTORS[name][0] is mmdetection else {"model": weights}, path)
    return path
