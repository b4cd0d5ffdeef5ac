#!/usr/bin/env python3
"""Run the tests on a detectron2 given by path, e.g. a checkout of its main branch.

It is used as it lies there, with or without its compiled extension ``_C``; nothing is installed.

Example: tools/test_on_detectron2.py ../detectron2 -- tests/layers tests/modeling -q
"""

import argparse
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
# Run apart from the tests, with their search path. Its last line is the answer.
LOOK = """
import os, detectron2
try:
    from detectron2 import _C
    extension = "with"
except ImportError:
    extension = "without"
print(extension, os.path.dirname(os.path.dirname(detectron2.__file__)))
"""


def environment(checkout: Path) -> dict[str, str]:
    """This process's, with the checkout and then this project found before what is installed."""
    before = [path for path in [os.environ.get("PYTHONPATH")] if path]
    return {**os.environ, "PYTHONPATH": os.pathsep.join([str(checkout), str(ROOT), *before])}


def main() -> int:
    """The exit code of pytest; 2 for a path without detectron2."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("path", type=Path, help="folder that has the folder detectron2 in it")
    parser.add_argument("pytest", nargs="*", help="arguments of pytest, after --; all by default")
    args = parser.parse_args()
    checkout = args.path.resolve()
    if not (checkout / "detectron2" / "__init__.py").is_file():
        parser.error(f"{checkout} has no detectron2/__init__.py; give a checkout of detectron2")
    env = environment(checkout)
    look = subprocess.run(
        [sys.executable, "-c", LOOK], env=env, cwd=ROOT, capture_output=True, text=True
    )
    if look.returncode:
        parser.error(f"{checkout} cannot be imported:\n{look.stderr}")
    extension, found = look.stdout.splitlines()[-1].split(" ", 1)
    if Path(found).resolve() != checkout:
        parser.error(f"Python imports the detectron2 of {found}, not that of {checkout}")
    print(f"detectron2 of {checkout}, {extension} its compiled extension _C", flush=True)
    command = [sys.executable, "-m", "pytest", *args.pytest]
    return subprocess.run(command, env=env, cwd=ROOT).returncode


if __name__ == "__main__":
    sys.exit(main())
