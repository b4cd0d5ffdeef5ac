"""Prediction on a Ray cluster: Ray Data hands shards of images to a pool of Predictors.

A shard is read, predicted and written by one actor. Where an actor or its machine dies, Ray starts
another one and repeats the shard, which the dead one had not written. https://docs.ray.io
"""

import contextlib
import functools
import hashlib
import logging
import os
import socket
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from detectron2.utils.file_io import PathManager

from resnest_d2.checkpoint.fetch import sha256_of
from resnest_d2.deploy import keep_freed_memory
from resnest_d2.errors import MissingPackageError, UserError
from resnest_d2.progress import progress
from resnest_d2.version import __version__

from .detector import prediction_config
from .paths import image_files
from .predictor import Predictor
from .shards import NUMBERS, Job, Shard, open_job
from .threshold import choose_threshold

# Options of the Predictor that the results depend on, beside its config.
SELECTING = ("only", "max_detections", "slice_size", "overlap")
LOCAL = "local"  # address of a cluster on this machine alone, started for a call


class Summary(NamedTuple):
    """What a call of :func:`predict_on_ray` did.

    Attributes:
        images: number of images of the job.
        before: number of them that were done before.
        failed: number of the others that could not be read.
        detections: number of detections in the others.
        seconds: time for the others, with the start of the actors.
    """

    images: int
    before: int
    failed: int
    detections: int
    seconds: float

    def __str__(self) -> str:
        done = self.images - self.before
        before = f" ({self.before} were done before)" if self.before else ""
        return (
            f"{done} images processed in {self.seconds:.0f} s{before}: {self.detections} "
            f"detections, {self.failed} images that could not be read."
        )


class ShardPredictor:
    """An actor: predicts the images of a shard and writes their records."""

    def __init__(self, job: Job, version: str, options: Mapping[str, Any]):
        """
        Args:
            job: the job.
            version: version of this package that began it.
            options: of the Predictor.
        """
        self.job, self.version, self.options = job, version, options

    @functools.cached_property
    def predictor(self) -> Predictor:
        """The Predictor of this actor.

        Raises:
            UserError: this machine has another version; or as :class:`Predictor`.
        """
        if self.version != __version__:
            raise UserError(f"A machine has resnest_d2 {__version__}, and the job {self.version}.")
        keep_freed_memory()
        return Predictor(**self.options)

    def __call__(self, batch: Mapping[str, Any]) -> dict[str, list]:
        """Predicts the one shard of a batch.

        Returns:
            Its numbers, see :meth:`Job.write`, and the message of a UserError or "": Ray would make
            an error of its own of it.
        """
        shard = Shard(**{name: int(values[0]) for name, values in batch.items()})
        paths, mistake = self.job.paths(shard), ""
        try:
            results = self.predictor.stream(image_files(paths)).results()
            numbers = self.job.write(shard, results, paths)
        except UserError as error:
            numbers, mistake = dict.fromkeys(NUMBERS, 0), str(error)
        return {**{name: [number] for name, number in numbers.items()}, "mistake": [mistake]}


def predict_on_ray(
    model: str,
    sources: Sequence[str],
    output: str | os.PathLike,
    *,
    address: str = LOCAL,
    actors: int | None = None,
    format: str = "jsonl",
    shard_size: int = 1000,
    **options: Any,
) -> Summary:
    """Predicts on a Ray cluster, or continues a job that was stopped.

    Args:
        model: see :class:`Predictor`.
        sources: images, folders of images, and text files (.txt) with one path per line, which all
            machines see under the same paths.
        output: folder of the results, which all machines see too; see
            :mod:`resnest_d2.inference.shards`.
        address: "local" starts Ray on this machine; "auto", "host:port" or "ray://host:port" joins
            a cluster. A program that is connected to one stays so.
        actors: number of Predictors; by default one per GPU, or one per two CPUs.
        format: "jsonl" or "parquet".
        shard_size: number of images of a shard.
        **options: of :class:`Predictor`.

    Raises:
        MissingPackageError: Ray is not installed.
        UserError: no cluster at the address; or as :func:`open_job` and :class:`Predictor`.
    """
    ray, start = _ray(), time.monotonic()
    weights = options.get("weights")
    options["model"], options["weights"] = _absolute(model), weights and _absolute(weights)
    if options.get("score_threshold") is None:  # one for all machines
        chosen = choose_threshold(model, weights=weights, opts=options.get("opts", ()))
        options["score_threshold"] = chosen.value
    settings = {"model": options["model"], **_identity(options)}
    settings |= {name: options.get(name) for name in SELECTING}
    job = open_job(output, sources, format=format, shard_size=shard_size, settings=settings)
    shards = [*job.shards()]
    missing = [shard for shard in shards if not job.path(shard).is_file()]
    images = sum(shard.images for shard in shards)
    before = images - sum(shard.images for shard in missing)
    totals = dict.fromkeys(NUMBERS, 0)
    if missing:
        with (
            _cluster(ray, address),
            progress(images, "Images", initial=before, unit="image") as bar,
        ):
            for row in _rows(ray, job, missing, actors, options):
                totals = {name: number + row[name] for name, number in totals.items()}
                bar.update(row["images"])
    del totals["images"]
    return Summary(images, before, **totals, seconds=time.monotonic() - start)


def _absolute(name: str | os.PathLike) -> str | os.PathLike:
    """The absolute path of a file or folder, because actors run in other folders; else the name."""
    return os.path.abspath(name) if os.path.exists(name) else name


def _identity(options: Mapping[str, Any]) -> dict[str, str]:
    """What tells detectors apart: the weights and the config, on any device."""
    cfg = prediction_config(
        options["model"],
        weights=options["weights"],
        device="auto",  # of this machine, which may have no GPU
        score_threshold=options.get("score_threshold"),
        opts=options.get("opts", ()),
    ).clone()
    cfg.defrost()
    weights = sha256_of(PathManager.get_local_path(cfg.MODEL.WEIGHTS))
    cfg.MODEL.WEIGHTS = cfg.MODEL.DEVICE = cfg.OUTPUT_DIR = ""
    config = hashlib.sha256(cfg.dump().encode()).hexdigest()
    return {"weights_sha256": weights, "config_sha256": config}


def _ray() -> Any:
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise MissingPackageError("--ray needs Ray: pip install 'resnest-d2[ray]'.") from error
    return ray


@contextlib.contextmanager
def _cluster(ray: Any, address: str) -> Iterator[None]:
    """Connects this process to a cluster, unless it is connected."""
    if ray.is_initialized():
        yield
        return
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is sent anywhere
    options = {"include_dashboard": False} if address == LOCAL else {}
    try:
        _reach(address)
        ray.init(address=address, log_to_driver=False, logging_level="error", **options)
    except (OSError, RuntimeError, ValueError) as error:
        reason = str(error).partition("\n")[0]
        raise UserError(
            f"There is no Ray cluster at {address!r} ({reason}); give 'local' for this machine."
        ) from error
    try:
        yield
    finally:
        ray.shutdown()


def _reach(address: str) -> None:
    """Connects to an address with a port once, which Ray would try for minutes.

    Raises:
        OSError: nothing listens there.
    """
    host, _, port = address.rpartition("://")[2].rpartition(":")
    if port.isdigit():
        socket.create_connection((host, int(port)), timeout=10).close()


def _rows(
    ray: Any, job: Job, shards: Sequence[Shard], actors: int | None, options: dict[str, Any]
) -> Iterator[dict[str, int]]:
    """Numbers of each shard, as soon as it is written.

    Raises:
        UserError: a mistake that an actor has found.
    """
    resources = ray.cluster_resources()
    gpus, cpus = int(resources.get("GPU", 0)), int(resources.get("CPU", 1))
    if gpus and options.get("device", "auto") != "cpu":
        each, most = {"num_gpus": 1, "num_cpus": 1}, gpus
    else:
        each, most = {"num_cpus": min(2, cpus)}, max(1, cpus // 2)
    ray.data.DataContext.get_current().enable_progress_bars = False
    logging.getLogger("ray.data").setLevel(logging.CRITICAL)  # its errors are raised, too
    data = ray.data.from_items([s._asdict() for s in shards], override_num_blocks=len(shards))
    data = data.map_batches(
        ShardPredictor,
        batch_size=1,
        fn_constructor_args=(job, __version__, options),
        compute=ray.data.ActorPoolStrategy(size=min(actors or most, len(shards))),
        **each,
    )
    for row in data.iter_rows():
        if row["mistake"]:
            raise UserError(row["mistake"])
        yield row
