"""The built-in data set, drawn when it is first used; its masks are bitmasks."""

from detectron2.data import transforms as T
from omegaconf import DictConfig

from resnest_d2.data import register_shapes

from .coco import dataloader

register_shapes()

dataloader.train.dataset.update(min_image_size=0, min_box_size=0)
dataloader.train.dataset.images.names = "shapes_train"
dataloader.test.dataset.names = "shapes_val"
dataloader.train.mapper.instance_mask_format = "bitmask"
dataloader.train.update(total_batch_size=4, num_workers=1)


def resize(dataloader: DictConfig, side: int) -> None:
    """Shortest side of the images, in training and evaluation, by PIL."""
    dataloader.train.mapper.augmentations[0].sample_style = "choice"
    for split in (dataloader.train, dataloader.test):
        split.mapper.augmentations[0].update(
            _target_=T.ResizeShortestEdge, short_edge_length=[side], max_size=448
        )


resize(dataloader, 256)
