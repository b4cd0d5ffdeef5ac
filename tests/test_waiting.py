"""How OpenMP's threads wait in our programs, as its library reads it when torch loads it."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PROGRAMS = {
    "resnest-d2": ["tools/resnest_d2_command.py", "doctor"],
    "train_net.py": ["train_net.py", "--config-file", "no_such_config"],
}
VARIABLES = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")


def run(arguments, **variables):
    kept = {k: v for k, v in os.environ.items() if k not in VARIABLES}
    environment = {**kept, "OMP_DISPLAY_ENV": "VERBOSE", "PYTHONPATH": str(ROOT), **variables}
    done = subprocess.run(
        [sys.executable, *arguments], env=environment, capture_output=True, text=True, cwd=ROOT
    )
    return done.stdout, done.stderr


def policy(errors):
    found = re.findall(r"OMP_WAIT_POLICY ?= ?'(\w+)'", errors)
    if not found:
        pytest.skip("this torch has no OpenMP that prints its settings")
    return found[0]


@pytest.mark.parametrize("program", PROGRAMS)
def test_programs_let_threads_sleep(program):
    errors = run(PROGRAMS[program])[1]
    assert policy(errors) == "PASSIVE"
    assert "GOMP_SPINCOUNT" not in errors or "GOMP_SPINCOUNT = '4000'" in errors


@pytest.mark.parametrize("program", PROGRAMS)
def test_what_the_user_set_stays(program):
    printed, errors = run(PROGRAMS[program], OMP_WAIT_POLICY="active", GOMP_SPINCOUNT="5")
    assert policy(errors) == "ACTIVE"
    if program == "resnest-d2":
        assert re.search(r"OpenMP +OMP_WAIT_POLICY=active, GOMP_SPINCOUNT=5\n", printed)


def test_importing_the_package_changes_no_variable():
    code = (
        "import os; before = dict(os.environ); import resnest_d2, resnest_d2.engine as _; "
        f"print([n for n in {VARIABLES} if os.environ.get(n) != before.get(n)])"
    )
    assert run(["-c", code])[0] == "[]\n"
