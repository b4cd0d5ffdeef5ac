#!/usr/bin/env python3
"""Install detectron2's Python part, with no compiler: ``resnest-d2-install-detectron2``.

A detectron2 that is there already is used as it is. Otherwise this takes the wheel sal-detectron2
0.7.2, which is upstream's main of 2024-04-17 (commit a59f05630) built for another Python, checks
its SHA-256, and unpacks its pure-Python part: the compiled extension in it would not load, and
nothing here needs it, because torchvision's operators do its work. What detectron2 depends on is
on the list of resnest_d2's own dependencies.
"""

import hashlib
import importlib.util
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import zipfile
from pathlib import Path

REQUIREMENT = "sal-detectron2==0.7.2"
SHA256 = "491af0c7f79bdb2d178e46f6cb16a97c4ac968d45c41ea3f6b6435d59bbee561"
# The wheel is tagged for one Python; its Python part runs on all of them.
ANY_PYTHON = "--python-version 3.10 --implementation cp --abi none --platform any".split()


def download(folder: Path) -> Path:
    """Fetch the wheel with pip, from whatever index pip is set up for.

    Raises:
        RuntimeError: pip failed, or the file is not the expected one.
    """
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]
    if subprocess.run([*pip, *ANY_PYTHON, "--dest", str(folder), REQUIREMENT]).returncode:
        raise RuntimeError(
            f"pip could not download {REQUIREMENT}; is there a network and a package index? Or "
            "build detectron2: https://detectron2.readthedocs.io/tutorials/install.html"
        )
    (wheel,) = folder.glob("*.whl")
    digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
    if digest != SHA256:
        raise RuntimeError(f"{wheel.name} has SHA-256 {digest}, expected {SHA256}: not installed.")
    return wheel


def unpack(wheel: Path, site_packages: Path) -> None:
    """Put the wheel's detectron2 package into site-packages, all of it or nothing.

    Its stray top-level ``tools``, its extension, and its metadata (which asks for an old numpy)
    stay out.
    """
    with tempfile.TemporaryDirectory(dir=site_packages) as work:
        with zipfile.ZipFile(wheel) as archive:
            for name in archive.namelist():
                if name.startswith("detectron2/") and not name.endswith((".so", ".pyd")):
                    archive.extract(name, work)
        shutil.move(Path(work) / "detectron2", site_packages / "detectron2")


def main() -> int:
    """Install unless it is there; 0 if detectron2 can be imported afterwards."""
    spec = importlib.util.find_spec("detectron2")
    if spec is not None:
        print(f"detectron2 is installed, used as it is: {spec.submodule_search_locations[0]}")
        return 0
    site_packages = Path(sysconfig.get_path("purelib"))
    try:
        with tempfile.TemporaryDirectory() as folder:
            unpack(download(Path(folder)), site_packages)
    except (RuntimeError, OSError) as error:
        print(f"install_detectron2: {error}", file=sys.stderr)
        return 1
    print(f"detectron2 (Python part, commit a59f05630) installed into {site_packages}")
    return subprocess.run([sys.executable, "-c", "import detectron2.model_zoo"]).returncode


if __name__ == "__main__":
    sys.exit(main())
