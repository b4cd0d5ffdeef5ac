"""The command as a user calls it, in this process."""

import pytest
from typer.testing import CliRunner

from resnest_d2.cli.main import app


@pytest.fixture(scope="session")
def resnest_d2():
    """A function that runs the command line; gives exit_code, stdout, stderr."""

    def run(*arguments, **kwargs):
        words = [str(argument) for argument in arguments]
        return CliRunner().invoke(app, words, prog_name="resnest-d2", **kwargs)

    return run
