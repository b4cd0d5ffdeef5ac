"""Transforms of albumentations as augmentations of detectron2, drawn from numpy's random numbers.

https://albumentations.ai/docs. Only its own transforms of images can be named: none that takes
functions or reads files, so that a config of somebody else's runs no code and opens no file.
"""

import importlib
import inspect
import os
from collections.abc import Sequence
from typing import Any

import numpy as np
from detectron2.data import transforms as T

from resnest_d2.errors import MissingPackageError, UserError

_OWN = "albumentations.augmentations."  # the modules of its transforms
# Arguments of transforms that call functions, read files or need more than one image.
_REFUSED_ARGUMENTS = {"read_fn", "font_path", "metadata_key", "image"}
# Parts of names: of volumes, of transforms that need all boxes, and of those that end in floats.
_REFUSED_NAMES = ("3D", "CubicSymmetry", "BBox", "Normalize", "ToFloat", "FromFloat")


class AlbumentationsTransform(T.Transform):
    """One transform of albumentations with the parameters that were drawn for an image."""

    def __init__(self, transform: Any, params: dict, image: np.ndarray, *, bgr: bool):
        """
        Args:
            transform: of albumentations.
            params: what it drew.
            image: the image before the transform, (H, W, C).
            bgr: whether its channels are in that order; albumentations' are RGB.
        """
        super().__init__()
        self.transform, self.params, self.bgr = transform, params, bgr
        self.moves = "mask" in transform.targets
        self.size = np.array(image.shape[1::-1] * 2, float)  # W, H, W, H
        self.new_size = np.array(self.apply_image(image).shape[1::-1] * 2, float)

    def _apply(self, target: str, value: np.ndarray) -> np.ndarray:
        return self.transform.apply_with_params(self.params, **{target: value})[target]

    def apply_image(self, img: np.ndarray) -> np.ndarray:
        """Image (H, W, C), uint8."""
        order = slice(None, None, -1 if self.bgr else 1)
        done = self._apply("image", np.ascontiguousarray(img[..., order]))
        return done.reshape(*done.shape[:2], img.shape[2])[..., order]

    def apply_segmentation(self, segmentation: np.ndarray) -> np.ndarray:
        """Mask (H, W)."""
        return self._apply("mask", segmentation) if self.moves else segmentation

    def apply_box(self, box: np.ndarray) -> np.ndarray:
        """Boxes (N, 4) as x0, y0, x1, y1; a box that the transform drops becomes empty."""
        return np.concatenate([self._moved(one) for one in np.asarray(box, float)[:, None]])

    def _moved(self, box: np.ndarray) -> np.ndarray:
        if not self.moves:
            return box
        moved = self._apply("bboxes", box / self.size)[:, :4] * self.new_size
        return moved if len(moved) else np.zeros((1, 4))

    def apply_coords(self, coords: np.ndarray) -> np.ndarray:
        """Points stay where they are: transforms that move them are given masks and boxes."""
        assert not self.moves, self.transform
        return coords


class AlbumentationsAugmentation(T.Augmentation):
    """A transform of albumentations, with its probability."""

    def __init__(self, transform: Any, *, bgr: bool):
        super().__init__()
        self.transform, self.bgr = transform, bgr

    def get_transform(self, image: np.ndarray) -> T.Transform:
        """Transform of an image (H, W, C), drawn with numpy's random numbers."""
        self.transform.set_random_seed(int(np.random.randint(2**31)))
        self.transform(image=np.ascontiguousarray(image))
        params = dict(self.transform.params)
        if not params:  # left out, by its probability
            return T.NoOpTransform()
        return AlbumentationsTransform(self.transform, params, image, bgr=self.bgr)

    def __repr__(self) -> str:
        return repr(self.transform)

    @property
    def moves(self) -> bool:
        """Whether it moves masks and boxes."""
        return "mask" in self.transform.targets


def build_albumentations(
    entries: Sequence[Sequence], *, bgr: bool, keypoints: bool
) -> list[T.Augmentation]:
    """Builds the augmentations of INPUT.AUG.ALBUMENTATIONS.

    Args:
        entries: [name, arguments] of each.
        bgr: whether images are BGR and not RGB.
        keypoints: whether the detector is trained on keypoints.

    Raises:
        MissingPackageError: albumentations is not installed.
        UserError: there is no such transform, or not with these arguments or this data.
    """
    found = [AlbumentationsAugmentation(_build(*entry), bgr=bgr) for entry in entries]
    moving = [a.transform for a in found if a.moves]
    if keypoints and moving:
        raise UserError(
            f"INPUT.AUG.ALBUMENTATIONS has {type(moving[0]).__name__}, which moves objects, but "
            "MODEL.KEYPOINT_ON is True: only transforms of colours are for keypoints."
        )
    return found


def _build(name: str, arguments: dict) -> Any:
    """The transform of a name; raises as :func:`build_albumentations`."""
    os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # it would ask a server for its version
    try:
        library: Any = importlib.import_module("albumentations")
    except ImportError as error:
        raise MissingPackageError(
            "INPUT.AUG.ALBUMENTATIONS needs albumentations: pip install "
            "'resnest-d2[albumentations]'."
        ) from error
    kind: Any = getattr(library, name, None)
    ours = inspect.isclass(kind) and issubclass(kind, library.BasicTransform)
    if not ours or not kind.__module__.startswith(_OWN):
        raise UserError(
            f"INPUT.AUG.ALBUMENTATIONS names {name!r}, which is no transform of albumentations "
            f"{library.__version__}; see https://albumentations.ai/docs/reference."
        )
    known = [*inspect.signature(kind).parameters]
    if _REFUSED_ARGUMENTS.intersection(known) or any(part in name for part in _REFUSED_NAMES):
        raise UserError(
            f"INPUT.AUG.ALBUMENTATIONS names {name}, which cannot be used here: only transforms "
            "are that need one image alone, no functions and no files, and keep 8 bits."
        )
    if unknown := [argument for argument in arguments if argument not in known]:
        raise UserError(
            f"INPUT.AUG.ALBUMENTATIONS {name} has no argument {unknown[0]!r}; choose from "
            f"{', '.join(known)}."
        )
    try:
        transform = kind(**arguments)
        needed = {*transform.targets_as_params} - {"image"}
    except (TypeError, ValueError) as error:  # of the arguments alone, which are the user's
        reason = " ".join(str(error).split())
        raise UserError(
            f"INPUT.AUG.ALBUMENTATIONS {name} does not take {arguments}: {reason}"
        ) from error
    if needed:
        raise UserError(
            f"INPUT.AUG.ALBUMENTATIONS names {name}, which cannot be used here: it needs "
            f"{', '.join(sorted(needed))} beside the image."
        )
    return transform
