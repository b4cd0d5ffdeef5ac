"""``resnest-d2 doctor``: shows versions, devices, memory, disk space and cached weights."""

import os
import platform
import shutil
import sys
from importlib import import_module, metadata
from pathlib import Path
from typing import TYPE_CHECKING

from resnest_d2.compat.detectron import (
    can_replace_scoring,
    can_replace_training_parts,
    missing_extension_points,
)
from resnest_d2.compat.vision import can_replace_nms
from resnest_d2.errors import UserError

from .common import say

if TYPE_CHECKING:
    from packaging.requirements import Requirement

GIB = 1 << 30
# Alternatives that satisfy the requirement as well.
_SAME = {
    "opencv-python-headless": (
        "opencv-python",
        "opencv-contrib-python",
        "opencv-contrib-python-headless",
    )
}
# What is replaced in detectron2 for a while, and whether it can be.
_SEAMS = {
    "the parts of DefaultTrainer": can_replace_training_parts,
    "the scoring of COCOEvaluator": can_replace_scoring,
    "batched_nms": can_replace_nms,
}
# How long OpenMP's threads wait for each other before they sleep, in GNU's and in Intel's library.
_WAITING = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")
_FOR_DEVELOPERS = ("test", "docs", "notebook")  # extras that no detector needs
Rows = list[tuple[str, str]]


def doctor() -> None:
    """Check this installation.

    Show versions, devices, memory, disk space and cached weights. No network is needed. The exit
    code is 1 if a requirement is missing or broken.

    Examples:
      resnest-d2 doctor
    """
    from tabulate import tabulate

    problems: list[str] = []
    sections = {
        "Versions": _versions(problems),
        "Extras": _extras(),
        "Works": _works(problems),
        "Devices": _devices(),
        "Room": _room(),
        "Weights": _weights(problems),
    }
    for title, rows in sections.items():
        rows = rows or [("", "unknown, because the package is not installed")]
        say(f"{title}\n{tabulate(rows, tablefmt='plain', disable_numparse=True)}\n")
    if problems:
        raise UserError("; ".join(problems))
    say("Nothing is missing.")


def _installed(name: str) -> str | None:
    """Version of a distribution or of one of its alternatives."""
    for candidate in (name, *_SAME.get(name, ())):
        try:
            return metadata.version(candidate)
        except metadata.PackageNotFoundError:
            continue
    return None


def _requirements() -> "list[Requirement]":
    """What the package asks for, its extras' with a marker; [] where only its source is there."""
    from packaging.requirements import Requirement

    try:
        return [Requirement(text) for text in metadata.requires("resnest-d2") or ()]
    except metadata.PackageNotFoundError:
        return []


def _versions(problems: list[str]) -> Rows:
    import detectron2

    rows = [
        ("python", f"{platform.python_version()} {sys.executable}"),
        ("system", platform.platform()),
        ("resnest-d2", _installed("resnest-d2") or "not installed, used from source"),
        ("detectron2", f"{detectron2.__version__} {os.path.dirname(detectron2.__file__)}"),
    ]
    for wanted in _requirements():
        if wanted.marker and not wanted.marker.evaluate({"extra": ""}):
            continue
        version = _installed(wanted.name)
        if version is None or not wanted.specifier.contains(version, prereleases=True):
            problems.append(f"{wanted} is needed, found {version}: pip install '{wanted}'")
        rows.append((wanted.name, version or "missing"))
    return rows


def _extras() -> Rows:
    """Optional packages by extra."""
    extras: dict[str, list[str]] = {}
    for wanted in _requirements():
        for extra in metadata.metadata("resnest-d2").get_all("Provides-Extra") or ():
            marker = wanted.marker
            if extra in _FOR_DEVELOPERS or marker is None or marker.evaluate({"extra": ""}):
                continue
            if marker.evaluate({"extra": extra}):
                extras.setdefault(extra, []).append(wanted.name)
    rows = []
    for extra, names in sorted(extras.items()):
        missing = [name for name in names if _installed(name) is None]
        found = ", ".join(f"{name} {_installed(name)}" for name in names if name not in missing)
        hint = f"no {', '.join(missing)}: pip install 'resnest-d2[{extra}]'" if missing else ""
        rows.append((extra, "; ".join(filter(None, (found, hint)))))
    return rows


def _works(problems: list[str]) -> Rows:
    """Compiled parts, tried; a torchvision built for another torch fails here."""
    import torch
    import torchvision

    boxes = torch.tensor([[0.0, 0.0, 4.0, 4.0], [0.0, 0.0, 4.0, 5.0]])
    image, offsets = torch.rand(1, 1, 6, 6), torch.zeros(1, 18, 4, 4)
    operators = {
        "NMS": lambda: torchvision.ops.nms(boxes, torch.tensor([0.9, 0.8]), 0.5),
        "RoIAlign": lambda: torchvision.ops.roi_align(image, [boxes], 2),
        "deformable convolution": lambda: torchvision.ops.deform_conv2d(
            image, offsets, torch.ones(1, 1, 3, 3)
        ),
    }
    rows = []
    for name, run in operators.items():
        try:
            run()
            rows.append((f"torchvision's {name}", "works"))
        except (RuntimeError, AttributeError) as error:
            rows.append((f"torchvision's {name}", "broken"))
            problems.append(
                f"torchvision's {name} is broken ({str(error).splitlines()[0]}): install a "
                f"torchvision built for torch {torch.__version__}"
            )
    try:
        import_module("detectron2._C")
        extension = "installed"
    except ImportError:
        extension = (
            "not installed: detectron2 lacks rotated boxes and deformable convolutions; "
            "this package does not need it"
        )
    unknown = missing_extension_points() + [part for part, known in _SEAMS.items() if not known()]
    if unknown:
        problems.append(
            f"this detectron2 differs from what resnest_d2 knows in {', '.join(unknown)}: install "
            "its main branch, or a newer resnest_d2"
        )
    rows.append(("detectron2's inner parts", ", ".join(unknown) or "as they are known here"))
    return [*rows, ("detectron2's extension", extension)]


def _devices() -> Rows:
    import torch

    from resnest_d2.deploy.cpu.abilities import abilities

    rows = [
        (
            "CPU",
            f"{os.cpu_count()} cores, torch uses {torch.get_num_threads()} threads and "
            f"{torch.backends.cpu.get_cpu_capability()}",
        ),
        ("its instructions", ", ".join(abilities()) or "unknown"),
        ("OpenMP", ", ".join(f"{n}={os.environ[n]}" for n in _WAITING if n in os.environ)),
    ]
    for index in range(torch.cuda.device_count()):
        gpu = torch.cuda.get_device_properties(index)
        rows.append((f"cuda:{index}", f"{gpu.name}, {gpu.total_memory / GIB:.1f} GiB"))
    if not torch.cuda.device_count():
        built = f"for CUDA {torch.version.cuda}" if torch.version.cuda else "for the CPU only"
        rows.append(("CUDA", f"no device; this torch is built {built}"))
    return rows


def _room() -> Rows:
    import psutil

    from resnest_d2.checkpoint.origins import cache_folder

    memory = psutil.virtual_memory()
    places = {"here": Path.cwd(), "cache": cache_folder()}
    rows = [("memory", f"{memory.available / GIB:.1f} of {memory.total / GIB:.1f} GiB free")]
    for name, place in places.items():
        there = next(folder for folder in (place, *place.parents) if folder.exists())
        free = shutil.disk_usage(there).free
        rows.append((f"disk, {name}", f"{free / GIB:.1f} GiB free in {place}"))
    return rows


def _weights(problems: list[str]) -> Rows:
    """Files in the cache and in the folder for machines without a network, with their sizes."""
    from resnest_d2.checkpoint.origins import MIRROR, cache_folder

    mirror = os.environ.get(MIRROR)
    folders = {"cache": cache_folder()}
    if mirror:
        folders[MIRROR] = Path(mirror).expanduser()
        if not folders[MIRROR].is_dir():
            problems.append(f"{MIRROR} is {mirror}, but there is no such folder")
    rows = []
    for name, folder in folders.items():
        files = sorted(folder.glob("*")) if folder.is_dir() else []
        files = [file for file in files if file.suffix in (".pth", ".safetensors", ".bin")]
        size = sum(file.stat().st_size for file in files)
        rows.append((name, f"{folder}: {len(files)} files, {size / 1e6:.1f} MB"))
        rows += [("", f"{file.name}  {file.stat().st_size / 1e6:.1f} MB") for file in files]
    return rows
