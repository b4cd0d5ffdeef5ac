#!/usr/bin/env python3
"""Installs detectron2's Python part without a compiler: ``resnest-d2-install-detectron2``.

An installed detectron2 is used as it is. Otherwise this downloads the wheel sal-detectron2 0.7.2,
which is upstream's main of 2024-04-17 (commit a59f05630) built for another Python, checks its
SHA-256, repacks its pure-Python part as a detectron2 wheel, and installs that with pip. The wheel's
compiled extension would not load and is not needed, because torchvision's operators replace it.
detectron2's dependencies are among those of resnest_d2.
"""

import base64
import csv
import hashlib
import importlib.util
import io
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

REQUIREMENT = "sal-detectron2==0.7.2"
SHA256 = "491af0c7f79bdb2d178e46f6cb16a97c4ac968d45c41ea3f6b6435d59bbee561"
# The wheel is tagged for one Python version; its Python part runs on all of them.
ANY_PYTHON = "--python-version 3.10 --implementation cp --abi none --platform any".split()
VERSION = "0.6+a59f056"  # upstream's version at that commit; 0.7.2 is the wheel's own numbering
METADATA = f"""\
Metadata-Version: 2.1
Name: detectron2
Version: {VERSION}
Summary: The Python part of detectron2 at commit a59f05630, without its compiled extension
Home-page: https://github.com/facebookresearch/detectron2
License: Apache-2.0
Requires-Python: >=3.8
"""
WHEEL = """\
Wheel-Version: 1.0
Generator: resnest-d2-install-detectron2
Root-Is-Purelib: true
Tag: py3-none-any
"""


def download(folder: Path) -> Path:
    """Downloads the wheel with pip, from its configured index.

    Raises:
        RuntimeError: pip failed, or the file is not the expected one.
    """
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]
    if subprocess.run([*pip, *ANY_PYTHON, "--dest", str(folder), REQUIREMENT]).returncode:
        raise RuntimeError(
            f"pip could not download {REQUIREMENT}; check the network and the package index, or "
            "build detectron2: https://detectron2.readthedocs.io/tutorials/install.html"
        )
    (wheel,) = folder.glob("*.whl")
    digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
    if digest != SHA256:
        raise RuntimeError(f"{wheel.name} has SHA-256 {digest}, expected {SHA256}: not installed.")
    return wheel


def repack(wheel: Path, folder: Path) -> Path:
    """Repacks the wheel's detectron2 package as a wheel for every Python version.

    Its stray top-level ``tools``, its extension and its metadata (another name, an old numpy) are
    left out. The new wheel has no dependencies: resnest_d2 lists them.

    Args:
        wheel: path of the published wheel.
        folder: folder of the new wheel.

    Returns:
        Path of the new wheel, ``detectron2-VERSION-py3-none-any.whl``.

    Raises:
        RuntimeError: the wheel has no detectron2 package.
    """
    info = f"detectron2-{VERSION}.dist-info"
    target = folder / f"detectron2-{VERSION}-py3-none-any.whl"
    record = []
    with zipfile.ZipFile(wheel) as old, zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as new:

        def add(name: str | zipfile.ZipInfo, data: bytes) -> None:
            digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
            path = name if isinstance(name, str) else name.filename
            record.append((path, f"sha256={digest}", len(data)))
            new.writestr(name, data)

        for member in old.infolist():
            compiled = member.filename.endswith((".so", ".pyd"))
            if member.filename.startswith("detectron2/") and not (member.is_dir() or compiled):
                add(member, old.read(member))
            elif member.filename.endswith(".dist-info/LICENSE"):
                add(f"{info}/LICENSE", old.read(member))
        if not any(path == "detectron2/__init__.py" for path, _, _ in record):
            raise RuntimeError(f"{wheel.name} has no detectron2 package: not installed.")
        add(f"{info}/METADATA", METADATA.encode())
        add(f"{info}/WHEEL", WHEEL.encode())
        add(f"{info}/top_level.txt", b"detectron2\n")
        lines = io.StringIO()
        csv.writer(lines, lineterminator="\n").writerows([*record, (f"{info}/RECORD", "", "")])
        new.writestr(f"{info}/RECORD", lines.getvalue())
    return target


def install(wheel: Path) -> None:
    """Installs a wheel with pip, which can then list, upgrade and remove it.

    Raises:
        RuntimeError: pip failed.
    """
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index"]
    if subprocess.run([*pip, str(wheel)]).returncode:
        raise RuntimeError(f"pip could not install {wheel.name}; its message is above.")


def main() -> int:
    """Installs detectron2 if it is missing; returns 0 if it can be imported afterwards."""
    spec = importlib.util.find_spec("detectron2")
    if spec is not None:
        print(f"detectron2 is installed, used as it is: {spec.submodule_search_locations[0]}")
        return 0
    try:
        with tempfile.TemporaryDirectory() as folder:
            install(repack(download(Path(folder)), Path(folder)))
    except (RuntimeError, OSError) as error:
        print(f"install_detectron2: {error}", file=sys.stderr)
        return 1
    print(f"detectron2 {VERSION} (Python part, commit a59f05630) is installed.")
    return subprocess.run([sys.executable, "-c", "import detectron2.model_zoo"]).returncode


if __name__ == "__main__":
    sys.exit(main())
