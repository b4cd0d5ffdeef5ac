"""The order of a training's images and their random numbers."""

import os
import time

import cv2
import numpy as np
import pytest
from detectron2.data import build_detection_train_loader
from detectron2.utils.env import seed_all_rng

from resnest_d2 import get_cfg
from resnest_d2.engine import loading
from resnest_d2.engine.loading import TrainingLoader

SIZES = [(30, 20), (20, 30), (40, 20), (20, 20), (50, 10), (10, 50), (60, 30)]  # width, height


class Noting:
    """Stands for the mapper: the image's number, its size and a random number."""

    def __init__(self, *args, **kwargs):
        pass

    def __call__(self, image):
        size = {"width": image.get("width", 0), "height": image.get("height", 0)}
        return {"id": image["image_id"], "drawn": np.random.rand(), **size}


@pytest.fixture
def make(monkeypatch):
    monkeypatch.setattr(loading, "NamingDatasetMapper", Noting)

    def build(sizes=SIZES, *, batch=2, workers=0, seed=1, sampler="TrainingSampler"):
        cfg = get_cfg()
        cfg.SOLVER.IMS_PER_BATCH, cfg.DATALOADER.NUM_WORKERS = batch, workers
        cfg.DATALOADER.SAMPLER_TRAIN = sampler
        images = [
            {"image_id": i, "width": w, "height": h, "annotations": [{"category_id": i % 2}]}
            for i, (w, h) in enumerate(sizes)
        ]
        seed_all_rng(seed)
        return TrainingLoader(cfg, images), cfg, images

    return build


def first(loader, number):
    batches = iter(loader)
    return [[(image["id"], image["drawn"]) for image in next(batches)] for _ in range(number)]


def ids(batches):
    return [[number for number, _ in batch] for batch in batches]


@pytest.mark.parametrize("sampler", ["TrainingSampler", "RepeatFactorTrainingSampler"])
@pytest.mark.parametrize("batch", [1, 3])
def test_the_order_is_detectron2s(batch, sampler, make):
    loader, cfg, images = make(batch=batch, sampler=sampler)
    with loading.own_random_numbers(loader.seed):
        theirs = iter(build_detection_train_loader(cfg, mapper=Noting(), dataset=images))
    expected = [[image["id"] for image in next(theirs)] for _ in range(9)]
    assert ids(first(loader, 9)) == expected


@pytest.mark.parametrize("sampler", ["TrainingSampler", "RepeatFactorTrainingSampler"])
def test_a_resumed_loader_goes_on_with_any_number_of_workers(sampler, make):
    whole = first(make(sampler=sampler)[0], 12)
    drawn = [number for batch in whole for _, number in batch]
    assert len(set(drawn)) == len(drawn)
    interrupted, _, _ = make(sampler=sampler)
    assert first(interrupted, 5) == whole[:5]
    for workers in (1, 2):
        resumed, _, _ = make(workers=workers, seed=77, sampler=sampler)
        before = np.random.get_state()[1].copy()
        assert resumed.resume(interrupted.state())
        assert first(resumed, 4) == whole[5:9]
        assert (np.random.get_state()[1] == before).all()  # the training's own
        again, _, _ = make(seed=78, sampler=sampler)
        assert again.resume(resumed.state())  # after a second interruption
        assert first(again, 3) == whole[9:]


def test_another_batch_goes_on_after_as_many_images(make):
    square = [(20, 20)] * 8
    whole = first(make(square)[0], 8)
    interrupted, _, _ = make(square)
    first(interrupted, 3)
    resumed, _, _ = make(square, batch=5, seed=9)
    assert not resumed.resume(interrupted.state())
    found = first(resumed, 2)
    assert [image for batch in found for image in batch] == [i for b in whole[3:] for i in b]
    again, _, _ = make(square, batch=5, seed=10)
    assert again.resume({**resumed.state(), "batches": 4})
    assert first(again, 1) == [found[1]]


def test_images_without_sizes_are_grouped_by_their_files(tmp_path, make):
    loader, _, images = make()
    expected = ids(first(loader, 6))
    for image in images:
        image["file_name"] = os.fspath(tmp_path / f"{image['image_id']}.png")
        cv2.imwrite(image["file_name"], np.zeros((image.pop("height"), image.pop("width")), "u1"))
    seed_all_rng(1)
    bare = TrainingLoader(make()[1], images)
    assert bare.resume({**loader.state(), "batches": 0})
    assert ids(first(bare, 6)) == expected


class Counting(Noting):
    """Leaves a file for every image that a data worker has mapped."""

    folder = None

    def __call__(self, image):
        (self.folder / str(time.monotonic_ns())).touch()
        return super().__call__(image)


@pytest.mark.parametrize("workers", [1, 2])
def test_two_batches_are_loaded_ahead(workers, make, monkeypatch, tmp_path):
    monkeypatch.setattr(loading, "NamingDatasetMapper", Counting)
    monkeypatch.setattr(Counting, "folder", tmp_path)
    batches = iter(make(batch=6, workers=workers)[0])
    next(batches)
    until = time.monotonic() + 60
    while len(list(tmp_path.iterdir())) < 18 and time.monotonic() < until:
        time.sleep(0.01)
    assert len(list(tmp_path.iterdir())) == 18  # the batch, and two more
