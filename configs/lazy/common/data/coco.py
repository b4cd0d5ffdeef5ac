"""COCO, in training and evaluation as mmdetection has it: OpenCV's resize, nothing tiny."""

from detectron2.config import LazyCall as L
from detectron2.data import (
    build_detection_test_loader,
    build_detection_train_loader,
    get_detection_dataset_dicts,
)
from detectron2.data import transforms as T
from detectron2.evaluation import COCOEvaluator
from omegaconf import OmegaConf

from resnest_d2.data.mapper import NamingDatasetMapper
from resnest_d2.data.resize import Cv2ResizeShortestEdge
from resnest_d2.data.small import without_small

dataloader = OmegaConf.create()
dataloader.train = L(build_detection_train_loader)(
    dataset=L(without_small)(
        images=L(get_detection_dataset_dicts)(names="coco_2017_train"),
        min_image_size=32,
        min_box_size=1,
    ),
    mapper=L(NamingDatasetMapper)(
        is_train=True,
        augmentations=[
            L(Cv2ResizeShortestEdge)(
                short_edge_length=[640, 800], max_size=1333, sample_style="range"
            ),
            L(T.RandomFlip)(horizontal=True),
        ],
        image_format="RGB",
        use_instance_mask=False,
    ),
    total_batch_size=16,
    num_workers=4,
)
dataloader.test = L(build_detection_test_loader)(
    dataset=L(get_detection_dataset_dicts)(names="coco_2017_val", filter_empty=False),
    mapper=L(NamingDatasetMapper)(
        is_train=False,
        augmentations=[
            L(Cv2ResizeShortestEdge)(short_edge_length=[800], max_size=1333, sample_style="choice")
        ],
        image_format="${...train.mapper.image_format}",
    ),
    num_workers="${..train.num_workers}",
)
dataloader.evaluator = L(COCOEvaluator)(dataset_name="${..test.dataset.names}")
