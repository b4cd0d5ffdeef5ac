"""Which images are to blame, and which errors are not theirs."""

import pytest
from detectron2.data import DatasetMapper
from PIL import Image

from resnest_d2.data.mapper import NamingDatasetMapper
from resnest_d2.errors import UserError


@pytest.fixture
def mapper(cfg):
    return NamingDatasetMapper(cfg, is_train=True)


@pytest.fixture
def record(tmp_path):
    Image.new("RGB", (60, 40)).save(tmp_path / "a.png")
    file = str(tmp_path / "a.png")
    return {"file_name": file, "image_id": 7, "height": 40, "width": 60, "annotations": []}


def test_an_image_that_is_at_fault_is_named(mapper, record, tmp_path):
    assert mapper(record)["image"].shape[0] == 3
    with pytest.raises(UserError, match=r"a.png \(image id 7\) cannot be used: SizeMismatchError"):
        mapper({**record, "width": 61})
    (tmp_path / "a.png").write_text("no image")
    with pytest.raises(
        UserError, match=r"a.png \(image id 7\) cannot be used: it is no image in one"
    ):
        mapper(record)


def test_a_defect_is_none_of_the_image(mapper, record, monkeypatch):
    def planted(self, dataset_dict):
        raise ValueError("planted")

    monkeypatch.setattr(DatasetMapper, "__call__", planted)
    with pytest.raises(RuntimeError, match=r"a.png \(image id 7\) makes .*: ValueError: planted"):
        mapper(record)
