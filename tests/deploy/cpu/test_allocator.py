import resource
import subprocess
import sys

import pytest

from resnest_d2.deploy import keep_freed_memory

SCRIPT = """
import resource
import threading
import torch
from resnest_d2.deploy import keep_freed_memory, return_freed_memory

def faults(times, size=2**24, together=1):  # 64 MiB
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(times):
        [torch.ones(size) for _ in range(together)]
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

assert keep_freed_memory()
other = []
def work():
    for size in (2**18, 2**20, 2**21, 2**22):  # another arena would be heaps of 64 MiB
        faults(20, size, 30)
    other.append(faults(2, 2**22, 30))
thread = threading.Thread(target=work)
thread.start()
thread.join()
faults(40)  # see the module: the first few blocks are not used again
kept = faults(4)
assert return_freed_memory()
print(kept, *other, faults(4))
"""


def test_freed_memory_is_used_again():
    if not keep_freed_memory():
        pytest.skip("not glibc")
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True)
    kept, in_thread, returned = map(int, done.stdout.split())
    pages = 2**26 // resource.getpagesize()
    assert kept < pages / 100 and in_thread < pages / 100
    assert returned > 0 and returned > 10 * kept  # how many, its large pages decide
