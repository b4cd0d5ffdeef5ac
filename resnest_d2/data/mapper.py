"""Dataset mapper with INPUT.RESIZE, whose errors name the image."""

from detectron2.config import CfgNode
from detectron2.data import DatasetMapper

from resnest_d2.errors import UserError

from .resize import with_resizer


class NamingDatasetMapper(DatasetMapper):
    """DatasetMapper whose errors name the image's file and id."""

    @classmethod
    def from_config(cls, cfg: CfgNode, is_train: bool = True) -> dict:
        """Arguments of :class:`DatasetMapper`, with INPUT.RESIZE applied."""
        args = super().from_config(cfg, is_train)
        return {**args, "augmentations": with_resizer(args["augmentations"], cfg.INPUT.RESIZE)}

    def __call__(self, dataset_dict: dict) -> dict:
        """See :class:`detectron2.data.DatasetMapper`.

        Raises:
            UserError: the image cannot be read, or does not fit its annotations.
        """
        try:
            return super().__call__(dataset_dict)
        except Exception as error:
            raise UserError(
                f"{dataset_dict['file_name']} (image id {dataset_dict.get('image_id')}) cannot be "
                f"used: {type(error).__name__}: {error}. Repair or remove it from the annotations."
            ) from error
