import resource
import subprocess
import sys

import pytest

from resnest_d2.deploy import keep_freed_memory

SCRIPT = """
import resource
import torch
from resnest_d2.deploy import keep_freed_memory, return_freed_memory

def faults(times):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(times):
        torch.ones(2**24)  # 64 MiB
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

assert keep_freed_memory()
faults(40)  # see the module: the first few blocks are not used again
kept = faults(4)
assert return_freed_memory()
print(kept, faults(4))
"""


def test_freed_memory_is_used_again():
    if not keep_freed_memory():
        pytest.skip("not glibc")
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True)
    kept, returned = map(int, done.stdout.split())
    pages = 2**26 // resource.getpagesize()
    assert kept < pages / 100
    assert returned > 0 and returned > 10 * kept  # how many, its large pages decide
