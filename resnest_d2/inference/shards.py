"""A job of many images, whose results are shards in a folder, and which can be restarted.

The folder holds ``job.json`` (what predicts what), ``images.jsonl`` (the path of one image a line)
and ``shard_00000.jsonl`` or ``.parquet`` and so on, each written atomically. A shard that is there
is done, so every image is there once, however often the job was stopped.
"""

import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from resnest_d2.errors import MissingPackageError, UserError
from resnest_d2.files import make_folder, read_json, whole_file
from resnest_d2.outputs import require_empty

from .paths import image_paths
from .result import Prediction
from .stream import Failure

FORMATS = ("jsonl", "parquet")
NUMBERS = ("images", "failed", "detections")  # of a shard that is done


class Shard(NamedTuple):
    """Some of the images of a job.

    Attributes:
        number: number of the shard, from 0.
        first: id of its first image; ids count from 1.
        offset: where its paths begin in images.jsonl, in bytes.
        images: number of its images.
    """

    number: int
    first: int
    offset: int
    images: int


class Job(NamedTuple):
    """A folder of shards.

    Attributes:
        folder: folder that all machines see under the same path.
        format: one of :data:`FORMATS`.
        shard_size: number of images of a shard.
    """

    folder: Path
    format: str
    shard_size: int

    def path(self, shard: Shard) -> Path:
        """Path of a shard's results."""
        return self.folder / f"shard_{shard.number:05}.{self.format}"

    def shards(self) -> Iterator[Shard]:
        """All shards, in their order."""
        number, first, offset, images, position = 0, 1, 0, 0, 0
        with open(self.folder / "images.jsonl", "rb") as file:
            for line in file:
                images, position = images + 1, position + len(line)
                if images == self.shard_size:
                    yield Shard(number, first, offset, images)
                    number, first, offset, images = number + 1, first + images, position, 0
        if images:
            yield Shard(number, first, offset, images)

    def paths(self, shard: Shard) -> list[str]:
        """Paths of a shard's images."""
        with open(self.folder / "images.jsonl", "rb") as file:
            file.seek(shard.offset)
            return [json.loads(line) for line in islice(file, shard.images)]

    def write(
        self, shard: Shard, results: Iterable[Prediction | Failure], paths: Sequence[str]
    ) -> dict[str, int]:
        """Writes a shard's results, a record per image.

        Args:
            shard: the shard.
            results: of its images, in their order.
            paths: of its images.

        Returns:
            :data:`NUMBERS`: of its images, of those that could not be read, and of detections.

        Raises:
            WriteError: the file cannot be written.
        """
        records = [
            _record(path, image_id, result)
            for image_id, (path, result) in enumerate(zip(paths, results, strict=True), shard.first)
        ]
        if self.format == "parquet":
            with whole_file(self.path(shard)) as file:
                _write_parquet(records, file)
        else:
            with whole_file(self.path(shard), "w") as file:
                file.writelines(json.dumps(record) + "\n" for record in records)
        failed = sum(record["error"] is not None for record in records)
        found = sum(len(record["detections"]) for record in records)
        return dict(zip(NUMBERS, (len(records), failed, found), strict=True))


def open_job(
    folder: str | os.PathLike,
    sources: Sequence[str],
    *,
    format: str = "jsonl",
    shard_size: int = 1000,
    settings: dict[str, Any],
) -> Job:
    """Begins a job in an empty folder, or continues the one that is there.

    Args:
        folder: folder of the results.
        sources: images, folders of images, and text files (.txt) with a path per line.
        format: one of :data:`FORMATS`.
        shard_size: number of images of a shard.
        settings: what else the results depend on; plain values.

    Raises:
        MissingFileError: a source does not exist.
        MissingPackageError: pyarrow is needed, and not installed.
        UserError: the folder has another job or other files, there are no images, an unknown
            format, or a size below 1.
        WriteError: the folder cannot be written to.
    """
    if format not in FORMATS:
        raise UserError(f"The format of shards is {format!r}; choose from {FORMATS}.")
    if shard_size < 1:
        raise UserError(f"The number of images of a shard is {shard_size}; choose 1 or more.")
    if format == "parquet":
        _pyarrow()
    job = Job(Path(folder).absolute(), format, shard_size)
    make_folder(job.folder)
    begun, first = job.folder / "job.json", job.folder / "images.jsonl"
    listed = job.folder / "images.new" if begun.is_file() else first
    if not first.is_file():
        require_empty(job.folder, overwrite=False)
    digest = hashlib.sha256()
    with whole_file(listed, "w") as file:
        for path in image_paths(sources):
            line = json.dumps(os.path.abspath(path)) + "\n"
            file.write(line)
            digest.update(line.encode())
    asked = {"images_sha256": digest.hexdigest(), "format": format, "shard_size": shard_size}
    asked |= settings
    if not begun.is_file():
        with whole_file(begun, "w") as file:
            json.dump(asked, file, indent=1)
        return job
    listed.unlink()
    before = read_json(begun)
    if changed := [key for key, value in asked.items() if value != before.get(key)]:
        pairs = ", ".join(f"{key} was {before.get(key)} and is {asked[key]}" for key in changed)
        raise UserError(
            f"{folder} has the results of another job ({pairs}); give another folder, or delete it."
        )
    return job


def _record(path: str, image_id: int, result: Prediction | Failure) -> dict[str, Any]:
    record: dict[str, Any] = {"image_id": image_id, "file_name": path}
    if isinstance(result, Failure):
        return {**record, "height": None, "width": None, "error": result.reason, "detections": []}
    height, width = result.image_size
    detections = result.to_coco(image_id)
    for detection in detections:
        del detection["image_id"]
    return {**record, "height": height, "width": width, "error": None, "detections": detections}


def _pyarrow() -> Any:
    try:
        import pyarrow
    except ImportError as error:
        raise MissingPackageError(
            "Shards in Parquet need pyarrow: pip install 'resnest-d2[ray]'."
        ) from error
    return pyarrow


def _write_parquet(records: list[dict[str, Any]], file: Any) -> None:
    """Writes records with the same columns in every shard, with or without detections."""
    pa = _pyarrow()
    from pyarrow import parquet

    detection = pa.struct(
        [
            ("category_id", pa.int64()),
            ("bbox", pa.list_(pa.float64())),
            ("score", pa.float64()),
            (
                "segmentation",
                pa.struct([("size", pa.list_(pa.int64())), ("counts", pa.string())]),
            ),
            ("keypoints", pa.list_(pa.float64())),
        ]
    )
    columns = [
        ("image_id", pa.int64()),
        ("file_name", pa.string()),
        ("height", pa.int64()),
        ("width", pa.int64()),
        ("error", pa.string()),
        ("detections", pa.list_(detection)),
    ]
    parquet.write_table(pa.Table.from_pylist(records, schema=pa.schema(columns)), file)
