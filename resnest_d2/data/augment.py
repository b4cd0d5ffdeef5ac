"""Augmentations of INPUT.AUG: a table of keys and builders, around detectron2's own list.

All off gives detectron2's list of augmentations, unchanged.
"""

from collections.abc import Callable, Iterable, Sequence

import cv2
import numpy as np
from detectron2.config import CfgNode
from detectron2.data import transforms as T

from .albumentations_adapter import AlbumentationsAugmentation, build_albumentations
from .resize import PilResizeShortestEdge


class FilledRotation(T.RotationTransform):
    """RotationTransform that keeps the image's size and fills its corners with a colour."""

    def __init__(self, h: int, w: int, angle: float, fill: Sequence[float]):
        super().__init__(h, w, angle, expand=False)
        self.fill = tuple(fill)

    def apply_image(self, img: np.ndarray, interp: int | None = None) -> np.ndarray:
        """(H, W, C) of an image or (H, W) of a mask, whose corners are 0."""
        rotated = cv2.warpAffine(
            np.ascontiguousarray(img),
            self.rm_image,
            (self.w, self.h),
            flags=self.interp if interp is None else interp,
            borderValue=self.fill if img.ndim == 3 else 0,
        )
        return rotated.reshape(img.shape)  # cv2 drops a C of 1


class Rotation(T.RandomRotation):
    """Rotation by up to some degrees either way, at the image's size."""

    def __init__(self, degrees: float, fill: Sequence[float]):
        super().__init__([-degrees, degrees], expand=False)
        self.degrees, self.fill = degrees, fill

    def get_transform(self, image: np.ndarray) -> T.Transform:
        """Rotation of an image (H, W, C)."""
        drawn = super().get_transform(image)
        if not isinstance(drawn, T.RotationTransform):  # 0 degrees
            return drawn
        return FilledRotation(drawn.h, drawn.w, drawn.angle, self.fill)


class ScaleJitter(T.Augmentation):
    """Large scale jitter: resizes to a factor of the training size, and crops to that size.

    Paper: https://arxiv.org/abs/2012.07177, Sec. 3. A factor of 1 is the size without jitter. The
    image is not padded: the detector pads batches.
    """

    def __init__(self, resize: PilResizeShortestEdge, factors: Sequence[float]):
        super().__init__()
        self.resize, self.factors = resize, tuple(factors)

    def __call__(self, aug_input: T.AugInput) -> T.TransformList:
        """Resizes and crops in place, and returns both transforms."""
        size = fitted_size(self.resize, *aug_input.image.shape[:2])
        jitter = T.ResizeScale(*self.factors, *size, self.resize.interp)
        drawn = jitter.get_transform(aug_input.image)
        height, width = max(1, drawn.new_h), max(1, drawn.new_w)
        scale = self.resize.transform(drawn.h, drawn.w, height, width, drawn.interp)
        aug_input.transform(scale)
        return T.TransformList([scale, T.RandomCrop("absolute", size)(aug_input)])


def fitted_size(resize: PilResizeShortestEdge, height: int, width: int) -> tuple[int, int]:
    """Height and width that an image is resized to."""
    drawn = resize.get_transform(np.empty((height, width), np.uint8))
    return (drawn.new_h, drawn.new_w) if isinstance(drawn, T.ResizeTransform) else (height, width)


class Saturation(T.RandomSaturation):
    """RandomSaturation for BGR: the weights of its grey are those of RGB."""

    def get_transform(self, image: np.ndarray) -> T.Transform:
        """Blend of an image (H, W, 3) with its grey."""
        return super().get_transform(image[..., ::-1])


class ClipToImage(T.Augmentation):
    """Cuts polygons off at the image's border, so that their boxes are those of what is seen."""

    def get_transform(self, image: np.ndarray) -> T.Transform:
        """Crop to the whole image."""
        return T.CropTransform(0, 0, image.shape[1], image.shape[0])


def _rotation(cfg: CfgNode) -> list[T.Augmentation]:
    return [Rotation(cfg.INPUT.AUG.ROTATION, cfg.MODEL.PIXEL_MEAN)]


def _vertical_flip(cfg: CfgNode) -> list[T.Augmentation]:
    return [T.RandomFlip(horizontal=False, vertical=True)]


def _color_jitter(cfg: CfgNode) -> list[T.Augmentation]:
    low, high = 1 - cfg.INPUT.AUG.COLOR_JITTER, 1 + cfg.INPUT.AUG.COLOR_JITTER
    found: list[T.Augmentation] = [T.RandomBrightness(low, high), T.RandomContrast(low, high)]
    if cfg.INPUT.FORMAT != "L":
        kind = Saturation if cfg.INPUT.FORMAT == "BGR" else T.RandomSaturation
        found.append(kind(low, high))
    return found


def _albumentations(cfg: CfgNode) -> list[T.Augmentation]:
    return build_albumentations(
        cfg.INPUT.AUG.ALBUMENTATIONS,
        bgr=cfg.INPUT.FORMAT == "BGR",
        keypoints=cfg.MODEL.KEYPOINT_ON,
    )


_Builder = Callable[[CfgNode], list[T.Augmentation]]
# In their order before and after the resizing, which SCALE_JITTER replaces.
_BEFORE: dict[str, _Builder] = {"ROTATION": _rotation}
_AFTER: dict[str, _Builder] = {
    "VERTICAL_FLIP": _vertical_flip,
    "COLOR_JITTER": _color_jitter,
    "ALBUMENTATIONS": _albumentations,
}


def with_augmentations(augmentations: list[T.Augmentation], cfg: CfgNode) -> list[T.Augmentation]:
    """Adds those of INPUT.AUG to the augmentations of a mapper for training.

    Args:
        augmentations: detectron2's, of :func:`resnest_d2.data.resize.with_resizer`.
        cfg: config that :func:`resnest_d2.config.check_config` accepts.

    Raises:
        MissingPackageError: albumentations is not installed.
        UserError: there is no such transform of albumentations, or not with these arguments.
    """
    keys = cfg.INPUT.AUG
    before, after = (
        [augmentation for key, build in part.items() if keys[key] for augmentation in build(cfg)]
        for part in (_BEFORE, _AFTER)
    )
    resized = [
        ScaleJitter(a, keys.SCALE_JITTER)
        if keys.SCALE_JITTER and isinstance(a, PilResizeShortestEdge)
        else a
        for a in augmentations
    ]
    found = [*before, *resized, *after]
    return [*found, ClipToImage()] if cuts_objects(found) or keys.MOSAIC else found


def cuts_objects(augmentations: Iterable[T.Augmentation]) -> bool:
    """Whether some rotate or cut objects, so that boxes must be taken from the masks."""
    return warps_objects(augmentations) or any(
        isinstance(a, Rotation | ScaleJitter) for a in augmentations
    )


def warps_objects(augmentations: Iterable[T.Augmentation]) -> bool:
    """Whether some move pixels as only bitmaps can follow, and no points of polygons."""
    return any(isinstance(a, AlbumentationsAugmentation) and a.moves for a in augmentations)


def describe_augmentations(cfg: CfgNode) -> str:
    """One line with the keys of augmentation that are on, and their values."""
    found = {"RANDOM_FLIP": cfg.INPUT.RANDOM_FLIP} if cfg.INPUT.RANDOM_FLIP != "none" else {}
    if cfg.INPUT.CROP.ENABLED:
        found["CROP"] = f"{cfg.INPUT.CROP.TYPE} {tuple(cfg.INPUT.CROP.SIZE)}"
    found |= {f"AUG.{key}": value for key, value in cfg.INPUT.AUG.items() if value}
    return ", ".join(f"{key} {value}" for key, value in found.items()) or "none"
