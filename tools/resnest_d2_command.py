#!/usr/bin/env python3
"""Entry point of the command ``resnest-d2``. Without detectron2 it prints how to install it."""

import sys
import warnings


def main() -> None:
    """Runs the command line and ends the process with its exit code."""
    # a deprecation in detectron2 and its dependencies that users cannot change
    warnings.filterwarnings("ignore", message=r"`torch\.jit\.script` is deprecated")
    try:
        from resnest_d2.cli.main import main as run
    except ImportError as error:
        sys.exit(f"resnest-d2: {error}")  # on standard error, with 1
    run()


if __name__ == "__main__":
    main()
