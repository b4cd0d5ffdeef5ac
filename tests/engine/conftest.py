"""A training so small that a test can run several."""

import pytest


@pytest.fixture
def tiny_cfg(rcnn_cfg, coco_files, tmp_path):
    """A config that trains on two images of 40 x 60 pixels and tests on them too."""
    entry = ["tiny", *coco_files()]

    def make(**keys):
        from detectron2.data import DatasetCatalog, MetadataCatalog

        from resnest_d2 import register_datasets

        if "tiny" in DatasetCatalog:  # of another test
            DatasetCatalog.remove("tiny")
            MetadataCatalog.remove("tiny")
        cfg = rcnn_cfg.clone()
        cfg.MODEL.ROI_HEADS.NUM_CLASSES = 2
        cfg.DATASETS.COCO = [entry]
        cfg.DATASETS.TRAIN, cfg.DATASETS.TEST = ("tiny",), ("tiny",)
        cfg.INPUT.MIN_SIZE_TRAIN, cfg.INPUT.MAX_SIZE_TRAIN = (64,), 128
        cfg.INPUT.RANDOM_FLIP = "none"
        cfg.DATALOADER.NUM_WORKERS = 0
        cfg.SOLVER.IMS_PER_BATCH, cfg.SOLVER.MAX_ITER, cfg.SOLVER.STEPS = 2, 3, ()
        cfg.SOLVER.BASE_LR, cfg.SOLVER.WARMUP_ITERS = 0.01, 0
        cfg.OUTPUT_DIR = str(tmp_path / "out")
        for key, value in keys.items():
            cfg.merge_from_list([key.replace("__", "."), value])
        register_datasets(cfg)
        (tmp_path / "out").mkdir(exist_ok=True)
        return cfg

    return make
