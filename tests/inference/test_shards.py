"""Jobs of many images: what is in a shard, and which job a folder has."""

import json
from types import SimpleNamespace

import pytest

from resnest_d2.errors import MissingFileError, UserError
from resnest_d2.inference.shards import open_job
from resnest_d2.inference.stream import Failure

DETECTION = {"category_id": 3, "bbox": [1.0, 2.0, 3.0, 4.0], "score": 0.5}


def found(number):
    """A prediction of so many objects."""
    records = [{"image_id": 0, **DETECTION} for _ in range(number)]
    return SimpleNamespace(image_size=(48, 64), to_coco=lambda image_id: [dict(r) for r in records])


@pytest.fixture
def images(tmp_path):
    folder = tmp_path / "images"
    folder.mkdir()
    for number in range(5):
        (folder / f"{number}.jpg").touch()
    return folder


def job_of(images, output, **changes):
    options = {"shard_size": 2, "settings": {"model": "mine"}, **changes}
    sources = options.pop("sources", [str(images)])
    return open_job(output, sources, **options)


def test_every_image_is_in_one_shard(images, tmp_path):
    (tmp_path / "list.txt").write_text(f"{images}/missing é.jpg\n\n{images}/0.jpg\n")
    sources = [str(images), str(tmp_path / "list.txt"), str(images / "1.jpg")]
    job = job_of(images, tmp_path / "out", sources=sources, shard_size=3)
    shards = [*job.shards()]
    names = ["0", "1", "2", "3", "4", "missing é", "0", "1"]
    paths = [path for shard in shards for path in job.paths(shard)]
    assert paths == [str(images / f"{name}.jpg") for name in names]
    assert [(s.number, s.first, s.images) for s in shards] == [(0, 1, 3), (1, 4, 3), (2, 7, 2)]


@pytest.mark.parametrize("format", ["jsonl", "parquet"])
def test_records(format, images, tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet") if format == "parquet" else None
    job = job_of(images, tmp_path / "out", format=format)
    shard = [*job.shards()][1]
    paths = job.paths(shard)
    numbers = job.write(shard, [found(2), Failure(paths[1], "damaged")], paths)
    assert numbers == {"images": 2, "detections": 2, "failed": 1}
    if format == "parquet":
        records = parquet.read_table(job.path(shard)).to_pylist()
        empty = {"segmentation": None, "keypoints": None}
    else:
        records = [json.loads(line) for line in job.path(shard).read_text().splitlines()]
        empty = {}
    image = {"image_id": 3, "file_name": paths[0], "height": 48, "width": 64, "error": None}
    assert records[0] == {**image, "detections": [{**DETECTION, **empty}] * 2}
    image = {"image_id": 4, "file_name": paths[1], "height": None, "width": None}
    assert records[1] == {**image, "error": "damaged", "detections": []}


def test_shards_without_detections_have_the_same_columns(images, tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet")
    job = job_of(images, tmp_path / "out", format="parquet")
    for shard, number in zip(job.shards(), (0, 2, 0), strict=True):
        paths = job.paths(shard)
        job.write(shard, [found(number)] * len(paths), paths)
    tables = [parquet.read_table(path) for path in sorted(job.folder.glob("*.parquet"))]
    assert [len(table) for table in tables] == [2, 2, 1]
    assert tables[0].schema == tables[1].schema == tables[2].schema


def test_a_job_is_continued_with_the_same_settings_only(images, tmp_path):
    output = tmp_path / "out"
    first = job_of(images, output)
    assert job_of(images, output) == first
    for changes, named in (
        ({"settings": {"model": "other"}}, "model was mine and is other"),
        ({"shard_size": 3}, "shard_size was 2 and is 3"),
        ({"sources": [str(images / "0.jpg")]}, "images_sha256 was"),
    ):
        with pytest.raises(UserError, match=f"results of another job.*{named}"):
            job_of(images, output, **changes)
    assert sorted(path.name for path in output.iterdir()) == ["images.jsonl", "job.json"]
    assert len([*first.shards()]) == 3


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"format": "csv"}, "'csv'"),
        ({"shard_size": 0}, "is 0"),
        ({"sources": ["nowhere"]}, "nowhere"),
    ],
)
def test_mistakes(changes, named, images, tmp_path):
    with pytest.raises((UserError, MissingFileError), match=named):
        job_of(images, tmp_path / "out", **changes)


def test_a_folder_with_other_files_is_left_alone(images, tmp_path):
    with pytest.raises(UserError, match="images has files"):
        job_of(images, images)


def test_sources_that_are_no_images(images, tmp_path):
    (tmp_path / "film.mp4").touch()
    (tmp_path / "list.txt").write_text("\n")
    for name, fault in (("film.mp4", "is a video"), ("list.txt", "lists no images")):
        with pytest.raises(UserError, match=f"{name} {fault}"):
            job_of(images, tmp_path / "out", sources=[str(tmp_path / name)])
