#!/usr/bin/env python3
"""Entry point of the command ``resnest-d2``. Without detectron2 it prints how to install it."""

import os
import sys
import warnings

registers_later = False  # read by resnest_d2/__init__.py


def main() -> None:
    """Run the command line; ends the process with its exit code."""
    sys.modules.setdefault("resnest_d2_command", sys.modules[__name__])  # where run as a script
    sys.modules["resnest_d2_command"].registers_later = True
    # Threads that wait for others soon sleep, see "A busy machine" in docs/training.md. OpenMP's
    # library reads these when torch loads it; GNU's has the second. What the user has set is kept.
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
        os.environ.setdefault("GOMP_SPINCOUNT", "4000")
    # detectron2's and its like's use of what torch has called old; no user can help it
    warnings.filterwarnings("ignore", message=r"`torch\.jit\.script` is deprecated")
    try:
        from resnest_d2.cli.main import main as run
    except ImportError as error:
        if not error.name or error.name.startswith("resnest_d2"):  # a defect of the package
            raise
        sys.exit(f"resnest-d2: {error}")  # on standard error, with 1
    run()


if __name__ == "__main__":
    main()
