"""detectron2's mapper with INPUT.RESIZE, saying which image it failed on."""

from detectron2.config import CfgNode
from detectron2.data import DatasetMapper

from resnest_d2.config import with_defaults
from resnest_d2.errors import UserError

from .resize import with_resizer


class NamingDatasetMapper(DatasetMapper):
    """Reads and augments an image; an error names the file and its image id."""

    @classmethod
    def from_config(cls, cfg: CfgNode, is_train: bool = True) -> dict:
        """Arguments of the constructor, as DatasetMapper's."""
        args, cfg = super().from_config(cfg, is_train), with_defaults(cfg)
        return {**args, "augmentations": with_resizer(args["augmentations"], cfg.INPUT.RESIZE)}

    def __call__(self, dataset_dict: dict) -> dict:
        """See :class:`detectron2.data.DatasetMapper`.

        Raises:
            ValueError: an image that cannot be read, or that its annotations do not fit.
        """
        try:
            return super().__call__(dataset_dict)
        except Exception as error:
            raise UserError(
                f"{dataset_dict['file_name']} (image id {dataset_dict.get('image_id')}) cannot be "
                f"used: {type(error).__name__}: {error}. Repair or remove it from the annotations."
            ) from error
