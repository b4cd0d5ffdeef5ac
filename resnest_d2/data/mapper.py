"""Dataset mapper with INPUT.RESIZE, whose errors name the image."""

from detectron2.config import CfgNode
from detectron2.data import DatasetMapper
from detectron2.data.detection_utils import SizeMismatchError, read_image

from resnest_d2.config import with_defaults
from resnest_d2.errors import UserError
from resnest_d2.files import UnreadableError, reading_image

from .resize import with_resizer
from .validate.images import require_8_bits


class NamingDatasetMapper(DatasetMapper):
    """DatasetMapper whose errors name the image's file and id."""

    @classmethod
    def from_config(cls, cfg: CfgNode, is_train: bool = True) -> dict:
        """Arguments of :class:`DatasetMapper`, with INPUT.RESIZE applied."""
        args, cfg = super().from_config(cfg, is_train), with_defaults(cfg)
        return {**args, "augmentations": with_resizer(args["augmentations"], cfg.INPUT.RESIZE)}

    def __call__(self, dataset_dict: dict) -> dict:
        """See :class:`detectron2.data.DatasetMapper`.

        Raises:
            UserError: an image that cannot be read, that is of another size than annotated, or
                that has more than 8 bits per channel.
            RuntimeError: any other error, with the image that it came up with.
        """
        try:
            require_8_bits(dataset_dict["file_name"])
            return super().__call__(dataset_dict)
        except Exception as error:
            name = f"{dataset_dict['file_name']} (image id {dataset_dict.get('image_id')})"
            if isinstance(error, UserError) and error.__cause__ is None:
                raise UserError(f"{name} cannot be used: {error}.") from error
            cause = error.__cause__ if isinstance(error, UnreadableError) else error
            reason = f"{type(cause).__name__}: {cause}"
            if not isinstance(error, SizeMismatchError) and _can_be_read(dataset_dict["file_name"]):
                raise RuntimeError(f"{name} makes the mapper fail: {reason}") from error
            raise UserError(
                f"{name} cannot be used: {reason}. Repair or remove it from the annotations."
            ) from error


def _can_be_read(path: str) -> bool:
    try:
        with reading_image(path):
            read_image(path)
    except UserError:
        return False
    return True
