"""Dataset mapper with INPUT.RESIZE and INPUT.AUG, whose errors name the image."""

import copy
from collections.abc import Sequence
from typing import Any

import pycocotools.mask as mask_util
from detectron2.config import CfgNode, configurable
from detectron2.data import DatasetMapper
from detectron2.data import transforms as T
from detectron2.data.detection_utils import (
    SizeMismatchError,
    filter_empty_instances,
    read_image,
)

from resnest_d2.config import with_defaults
from resnest_d2.errors import UserError
from resnest_d2.files import UnreadableError

from .augment import ClipToImage, warps_objects, with_augmentations
from .image_files import open_image, reading_image, reason_of
from .mosaic import Mosaic
from .resize import with_resizer
from .validate.images import require_8_bits


class NamingDatasetMapper(DatasetMapper):
    """DatasetMapper with INPUT.AUG, whose errors name the image's file and id."""

    @configurable
    def __init__(
        self,
        is_train: bool,
        *,
        tight_boxes: bool = False,
        rasterized: bool = False,
        mosaic: Mosaic | None = None,
        pool: Sequence[dict] = (),
        **kwargs: Any,
    ):
        """
        Args:
            is_train: as in the base class.
            tight_boxes: take boxes from masks after the augmentations, where there are masks.
            rasterized: turn polygons into bitmaps before the augmentations.
            mosaic: joins an image with others of the pool.
            pool: images to draw the others from.
            kwargs: of the base class.
        """
        super().__init__(is_train, **kwargs)
        self.tight_boxes, self.rasterized = tight_boxes, rasterized
        self.mosaic, self.pool = mosaic, pool

    @classmethod
    def from_config(cls, cfg: CfgNode, is_train: bool = True) -> dict:
        """Arguments of the mapper, with INPUT.RESIZE and, in training, INPUT.AUG applied."""
        cfg = with_defaults(cfg).clone()
        cfg.defrost()
        cfg.DATASETS.TRAIN = cfg.DATASETS.TRAIN or cfg.DATASETS.TEST  # names of its keypoints
        args = super().from_config(cfg, is_train)
        args["augmentations"] = with_resizer(args["augmentations"], cfg.INPUT.RESIZE)
        tight = args.pop("recompute_boxes")  # of INPUT.CROP; fails on images without objects
        if not is_train:
            return args
        args["augmentations"] = found = with_augmentations(args["augmentations"], cfg)
        probability = cfg.INPUT.AUG.MOSAIC
        args["mosaic"] = Mosaic(probability, cfg.MODEL.PIXEL_MEAN) if probability else None
        args["rasterized"] = warps_objects(found)
        args["tight_boxes"] = tight or any(isinstance(a, ClipToImage) for a in found)
        return args

    def __call__(self, dataset_dict: dict) -> dict:
        """See :class:`detectron2.data.DatasetMapper`.

        Raises:
            UserError: an image that cannot be read, that is of another size than annotated, or
                that has more than 8 bits per channel.
            RuntimeError: any other error, with the image that it came up with.
        """
        if self.mosaic and self.mosaic.is_drawn():
            return self.mosaic.join(dataset_dict, self)
        return self.map_one(dataset_dict)

    def map_one(self, dataset_dict: dict) -> dict:
        """Maps one image without joining it with others; raises as the call."""
        path = dataset_dict["file_name"]
        try:
            require_8_bits(path)
            if "sem_seg_file_name" in dataset_dict:
                with open_image(dataset_dict["sem_seg_file_name"]):
                    pass  # detectron2 would open any format
            return super().__call__(dataset_dict)
        except Exception as error:
            name = f"{path} (image id {dataset_dict.get('image_id')})"
            reason = f"{type(error).__name__}: {error}"
            if isinstance(error, UnreadableError):
                reason = reason_of(error, path)
            elif isinstance(error, UserError) and error.__cause__ is None:
                raise UserError(f"{name} cannot be used: {error}.") from error
            elif not isinstance(error, SizeMismatchError) and _can_be_read(path):
                raise RuntimeError(f"{name} makes the mapper fail: {reason}") from error
            raise UserError(
                f"{name} cannot be used: {reason}. Repair or remove it from the annotations."
            ) from error

    def _transform_annotations(
        self, dataset_dict: dict, transforms: T.Transform, image_shape: tuple[int, int]
    ) -> None:
        """Makes Instances of annotations, whose boxes are those of their masks if so asked."""
        objects = [a for a in dataset_dict["annotations"] if not a.get("iscrowd")]
        masks = [a["segmentation"] for a in objects if "segmentation" in a]
        if not self.tight_boxes or not masks or len(masks) < len(objects):
            super()._transform_annotations(dataset_dict, transforms, image_shape)
            return
        if self.rasterized:
            for annotation in objects:
                annotation["segmentation"] = _rasterize(annotation["segmentation"], dataset_dict)
        mapper = copy.copy(self)
        mapper.use_instance_mask = True
        if self.rasterized or (not self.use_instance_mask and isinstance(masks[0], dict)):
            mapper.instance_mask_format = "bitmask"
        super(NamingDatasetMapper, mapper)._transform_annotations(
            dataset_dict, transforms, image_shape
        )
        instances = dataset_dict["instances"]
        instances.gt_boxes = instances.gt_masks.get_bounding_boxes()
        dataset_dict["instances"] = instances = filter_empty_instances(instances)
        if not self.use_instance_mask:
            instances.remove("gt_masks")


def _rasterize(segmentation: list | dict, image: dict) -> dict:
    """RLE of polygons in an image of some height and width."""
    if isinstance(segmentation, dict):
        return segmentation
    parts = mask_util.frPyObjects([list(p) for p in segmentation], image["height"], image["width"])
    return mask_util.merge(parts)


def _can_be_read(path: str) -> bool:
    try:
        with open_image(path), reading_image(path):
            read_image(path)
    except UserError:
        return False
    return True
