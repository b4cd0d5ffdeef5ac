"""Config keys of this package, with the values of the published ResNeSt-50 as defaults.

Defaults of detectron2's own keys are unchanged.
"""

import copy
import functools
from collections.abc import Iterator
from typing import Any

from detectron2.config import CfgNode
from detectron2.config import get_cfg as get_detectron2_cfg

ABSENT = object()  # stands for a key that a config does not have


def add_resnest_config(cfg: CfgNode) -> None:
    """Adds the keys of this package to a detectron2 config; existing keys are unchanged."""
    keys = cfg.MODEL.RESNETS
    # Splits of the 3x3 convolution: 2 in ResNeSt, 1 is squeeze-and-excitation, 0 a plain ResNet.
    keys.RADIX = 2
    # Use a 3x3 average pool instead of a convolution for a block's stride. STRIDE_IN_1X1 is then
    # ignored: True, detectron2's default, is replaced by False, which is logged.
    keys.AVD = True
    # Place that pool before the 3x3 convolution instead of after it; requires AVD.
    keys.AVD_FIRST = False
    # Use an average pool for the shortcut's stride instead of its 1x1 convolution.
    keys.AVG_DOWN = True
    # Three 3x3 convolutions instead of one 7x7. STEM_OUT_CHANNELS is 64 up to depth 50 and 128 from
    # 101 on, where 64, detectron2's default, is replaced by 128, which is logged.
    keys.DEEP_STEM = True
    # Width of a cardinal group in 64ths (timm's "40d" is 40); NUM_GROUPS is the cardinality.
    keys.BOTTLENECK_WIDTH = 64
    # What the backward pass recomputes to save memory: "none"; "light": norms, activations and
    # attention; "block": whole blocks. Also applies to CheckpointConvFCHead. Gradients do not
    # change.
    keys.ACTIVATION_CHECKPOINT = "none"

    # Differences between mmdetection's cascades and detectron2's, for CascadeMaskROIHeads.
    keys = cfg.MODEL.ROI_BOX_CASCADE_HEAD
    # Weights of the stages' losses, masks included; () for 1 each.
    keys.STAGE_LOSS_WEIGHTS = ()
    # Resample BATCH_SIZE_PER_IMAGE regions, ground truth included, at every stage.
    keys.RESAMPLE = False
    # At test time average the stages' class logits instead of their probabilities.
    keys.AVERAGE_LOGITS = False
    # Divide the gradient of the box losses with respect to the features by the number of stages.
    keys.SCALE_FEATURE_GRADIENTS = True
    # Also clamp a box's change of size from below; for other heads use TwoSided{RPN,ROIHeads}.
    keys.TWO_SIDED_CLAMP = False
    # One mask head per stage, trained on its regions; their masks are averaged at test time.
    cfg.MODEL.ROI_MASK_HEAD.PER_STAGE = False

    # Object that the best anchors of an object are matched with: "detectron2", the one that they
    # overlap most; "mmdetection", that object, from the lower of IOU_THRESHOLDS. For TwoSidedRPN.
    cfg.MODEL.RPN.LOW_QUALITY_MATCHES = "detectron2"
    # Do not train on anchors that lie in the padding of a batch. For TwoSidedRPN.
    cfg.MODEL.RPN.SKIP_PADDING = False
    # The same for proposals, from the upper of IOU_THRESHOLDS; "detectron2" has no such matches.
    # For TwoSidedROIHeads.
    cfg.MODEL.ROI_HEADS.LOW_QUALITY_MATCHES = "detectron2"

    # Fit SIZES and ASPECT_RATIOS to the boxes of a new training, as many as they are, where that
    # recalls more of them (train --anchors auto). The run's config.yaml has the numbers, and False.
    cfg.MODEL.ANCHOR_GENERATOR.AUTO = False

    # Do not train on images with a side shorter than this, in pixels.
    cfg.DATALOADER.MIN_IMAGE_SIZE = 0
    # Do not train on boxes with a side shorter than this, in pixels of the original image.
    cfg.DATALOADER.MIN_BOX_SIZE = 0

    # Library that resizes images: "pil" as in detectron2, or "cv2" (bilinear) as in mmdetection.
    cfg.INPUT.RESIZE = "pil"

    # Augmentation of the training images, besides RANDOM_FLIP and CROP; see docs/augmentation.md.
    cfg.INPUT.AUG = CfgNode()
    keys = cfg.INPUT.AUG
    # Large scale jitter: the smallest and the largest factor of the training size, such as
    # (0.5, 2.0); larger images are cropped to the training size. () for none.
    keys.SCALE_JITTER = ()
    # Also flip half of the images upside down.
    keys.VERTICAL_FLIP = False
    # Rotate by up to so many degrees either way; 180 for any orientation.
    keys.ROTATION = 0.0
    # Change brightness, contrast and saturation by factors of up to 1 - x and 1 + x.
    keys.COLOR_JITTER = 0.0
    # Probability of joining an image with parts of three others.
    keys.MOSAIC = 0.0
    # Transforms of albumentations in their order, each as [name, {argument: value}].
    keys.ALBUMENTATIONS = []

    # Evaluate (train_net.py --eval-only) the optimized detector; in fp32 results are the same.
    cfg.MODEL.DEPLOY = CfgNode()
    cfg.MODEL.DEPLOY.ENABLED = False
    # "eager" has no requirements, "inductor" needs a C++ compiler, "openvino" openvino and a CPU.
    cfg.MODEL.DEPLOY.BACKEND = "eager"
    # "fp32", "bf16" or "fp16", whose results differ in the third digit, or "int8", quantized by
    # `resnest-d2 export --precision int8` and run by OpenVINO; "auto" is fp32.
    cfg.MODEL.DEPLOY.PRECISION = "auto"
    # As PRECISION "fp16" on CUDA and "bf16" on the CPU; the key of earlier versions.
    cfg.MODEL.DEPLOY.AMP = False

    # Write report.html to OUTPUT_DIR after every evaluation of COCO-format datasets.
    cfg.TEST.REPORT = True
    # Evaluate and save the moving average of the weights; see docs/training.md.
    cfg.MODEL.EMA = CfgNode()
    cfg.MODEL.EMA.ENABLED = False
    # Decay of the average in each step, after a warm-up.
    cfg.MODEL.EMA.DECAY = 0.9998

    # Length of the training in epochs; 0 to use SOLVER.MAX_ITER. STEPS keep their fractions of the
    # training.
    cfg.SOLVER.EPOCHS = 0
    # Save a checkpoint when the last one is older than this, in minutes; 0: by iterations only.
    cfg.SOLVER.CHECKPOINT_MINUTES = 15.0
    # Number of numbered checkpoints that are kept, in addition to the best and the final; 0: all.
    cfg.SOLVER.CHECKPOINTS_TO_KEEP = 3
    # Stop when the validation AP no longer improves.
    cfg.SOLVER.EARLY_STOPPING = CfgNode()
    cfg.SOLVER.EARLY_STOPPING.ENABLED = False
    # Number of evaluations without improvement before stopping.
    cfg.SOLVER.EARLY_STOPPING.PATIENCE = 10

    # Epochs between evaluations; 0 to use TEST.EVAL_PERIOD.
    cfg.TEST.EVAL_EPOCHS = 0
    # Also compute the losses on DATASETS.TEST in every evaluation, as validation/total_loss etc.
    cfg.TEST.VALIDATION_LOSS = False

    # COCO-format datasets to register, each as [name, annotation file, image folder].
    cfg.DATASETS.COCO = []
    # Base folder of the paths in COCO; "" for the config file's folder, else the current one.
    cfg.DATASETS.ROOT = ""
    # Names of the detector's classes in its order, and their category ids. Read from the files in
    # COCO, so that a saved config works without its data. Test sets are matched by name.
    cfg.DATASETS.CLASSES = []
    cfg.DATASETS.CATEGORY_IDS = []


def get_cfg() -> CfgNode:
    """Returns detectron2's default config with this package's keys."""
    cfg = get_detectron2_cfg()
    add_resnest_config(cfg)
    return cfg


@functools.cache
def _defaults() -> CfgNode:
    return get_cfg()


def _our_keys() -> Iterator[tuple[str, Any]]:
    """Dotted names of this package's keys, and their defaults."""
    theirs = dict(leaves(get_detectron2_cfg()))
    return ((key, value) for key, value in leaves(_defaults()) if key not in theirs)


def leaves(node: dict, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted names and values of the leaves of nested dictionaries."""
    for name, value in node.items():
        full = f"{prefix}{name}"
        if isinstance(value, dict):
            yield from leaves(value, f"{full}.")
        else:
            yield full, value


def get_key(cfg: CfgNode, key: str, default: Any = None) -> Any:
    """Value of a key by its dotted name; ``default`` if there is no such key."""
    node = cfg
    for part in key.split("."):
        if not isinstance(node, dict) or part not in node:
            return default
        node = node[part]
    return node


def set_key(cfg: CfgNode, key: str, value: Any) -> None:
    """Sets a key by its dotted name."""
    *path, leaf = key.split(".")
    for part in path:
        cfg = cfg[part]
    cfg[leaf] = value


def default_of(key: str) -> Any:
    """Default of a key by its dotted name."""
    return get_key(_defaults(), key)


def fill_defaults(cfg: CfgNode) -> None:
    """Adds missing keys of this package to a config, in place.

    A config that another program read with ``cfg.set_new_allowed(True)`` and ``merge_from_file``
    has only the keys in the file, and lists where the defaults are tuples.
    """
    for key, value in _lacking(cfg).items():
        *path, leaf = key.split(".")
        node = cfg
        for part in path:
            if part not in node:
                node[part] = CfgNode()
            node = node[part]
        node[leaf] = copy.deepcopy(value)


def with_defaults(cfg: CfgNode) -> CfgNode:
    """Returns a config with every key of this package, see :func:`fill_defaults`.

    Args:
        cfg: any detectron2 config; it is not changed.

    Returns:
        The same config if no key is missing; else a copy, frozen if ``cfg`` is.
    """
    if not _lacking(cfg):
        return cfg
    new = cfg.clone()
    new.defrost()
    fill_defaults(new)
    if cfg.is_frozen():
        new.freeze()
    return new


def _lacking(cfg: CfgNode) -> dict[str, Any]:
    """Keys that are missing, or lists instead of tuples, and their correct values."""
    found = {key: get_key(cfg, key, ABSENT) for key, _ in OUR_KEYS}
    return {
        key: default if found[key] is ABSENT else tuple(found[key])
        for key, default in OUR_KEYS
        if found[key] is ABSENT or (isinstance(default, tuple) and isinstance(found[key], list))
    }


OUR_KEYS = tuple(_our_keys())
