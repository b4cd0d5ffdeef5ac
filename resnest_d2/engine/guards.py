"""Checks of the training images: none, or fewer than a batch."""

import logging

from detectron2.config import CfgNode
from detectron2.data import get_detection_dataset_dicts
from detectron2.utils import comm

from resnest_d2.config import check_unsafe_keys
from resnest_d2.data.small import without_small
from resnest_d2.errors import UserError


def load_training_images(cfg: CfgNode) -> list[dict]:
    """Loads the images of DATASETS.TRAIN that detectron2 trains on.

    Returns:
        Images with their annotations, without the empty ones (see
        DATALOADER.FILTER_EMPTY_ANNOTATIONS) and small ones (see MIN_IMAGE_SIZE and MIN_BOX_SIZE).

    Raises:
        UserError: no dataset, no image left, or a category that does not exist.
    """
    check_unsafe_keys(cfg)
    names = list(cfg.DATASETS.TRAIN)
    if not names:
        raise UserError(
            "There is nothing to train on: DATASETS.TRAIN is empty; give --data, or set "
            "DATASETS.COCO and TRAIN."
        )
    keypoints = cfg.MODEL.ROI_KEYPOINT_HEAD.MIN_KEYPOINTS_PER_IMAGE
    try:
        images = get_detection_dataset_dicts(
            names,
            filter_empty=cfg.DATALOADER.FILTER_EMPTY_ANNOTATIONS,
            min_keypoints=keypoints if cfg.MODEL.KEYPOINT_ON else 0,
        )
    except AssertionError as error:
        raise UserError(
            f"DATASETS.TRAIN {names} cannot be trained on: {error} (Images without annotations, "
            "or with crowds alone, are left out.)"
        ) from error
    loader = cfg.DATALOADER
    kept = without_small(
        images, min_image_size=loader.MIN_IMAGE_SIZE, min_box_size=loader.MIN_BOX_SIZE
    )
    if not kept:
        raise UserError(
            f"DATASETS.TRAIN {names} has no image with sides of DATALOADER.MIN_IMAGE_SIZE "
            f"({loader.MIN_IMAGE_SIZE}) pixels; lower it."
        )
    boxes = _num_boxes(images) - _num_boxes(kept)
    if (len(kept) < len(images) or boxes) and comm.is_main_process():
        logging.getLogger(__name__).warning(
            f"Not trained on: {len(images) - len(kept)} of the {len(images)} images of "
            f"{', '.join(names)}, with a side under DATALOADER.MIN_IMAGE_SIZE "
            f"({loader.MIN_IMAGE_SIZE} pixels), and {boxes} boxes, in these images or with a side "
            f"under DATALOADER.MIN_BOX_SIZE ({loader.MIN_BOX_SIZE:g} pixels)."
        )
    return kept


def _num_boxes(images: list[dict]) -> int:
    return sum(len(image.get("annotations", ())) for image in images)


def warn_of_small_data(cfg: CfgNode, images: list[dict]) -> None:
    """Logs a warning if a batch has more images than the data, so that some occur twice.

    Args:
        cfg: config of the training.
        images: images of :func:`load_training_images`.
    """
    batch = cfg.SOLVER.IMS_PER_BATCH
    if len(images) < batch and comm.is_main_process():
        logging.getLogger(__name__).warning(
            f"{', '.join(cfg.DATASETS.TRAIN)} has {len(images)} images to train on, fewer than "
            f"a batch (SOLVER.IMS_PER_BATCH {batch}): every batch contains some of them more than "
            "once. Lower it, and SOLVER.BASE_LR with it."
        )


def warn_of_finished_run(start_iter: int, max_iter: int) -> None:
    """Logs a warning if a run that is resumed has no iteration left.

    Args:
        start_iter: iterations of the checkpoint.
        max_iter: SOLVER.MAX_ITER.
    """
    if start_iter >= max_iter:
        logging.getLogger(__name__).warning(
            f"Nothing is left to train: the checkpoint has {start_iter} iterations, and "
            f"SOLVER.MAX_ITER is {max_iter}. It is only evaluated; to continue, set MAX_ITER (or "
            "SOLVER.EPOCHS) higher."
        )
