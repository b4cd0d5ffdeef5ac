import resource
import subprocess
import sys
from pathlib import Path

import pytest
import small
import torch

from resnest_d2.deploy import keep_freed_memory, optimize_for_inference
from resnest_d2.deploy.cpu import allocator
from resnest_d2.modeling import ResNeSt

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


def test_optimising_leaves_it_alone(monkeypatch):
    calls = []
    monkeypatch.setattr(allocator, "_set", calls.append)
    fast = optimize_for_inference(ResNeSt(14).eval())
    fast(torch.rand(1, 3, 32, 32))
    assert calls == []


def test_importing_leaves_it_alone():
    script = (
        "import ctypes; real = ctypes.CDLL\n"
        "class Library:\n"
        "    def __init__(self, *args, **kw): self.real = real(*args, **kw)\n"
        "    def __getattr__(self, name): print(name); return getattr(self.real, name)\n"
        "import torch, detectron2.engine; ctypes.CDLL = Library\n"
        "import resnest_d2.engine, resnest_d2.inference, resnest_d2.deploy.optimize as o\n"
        "print('imported'); resnest_d2.deploy.keep_freed_memory()"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    before, _, after = done.stdout.partition("imported")
    assert "mallopt" not in before and done.returncode == 0, done.stderr
    if keep_freed_memory():
        assert "mallopt" in after


def test_train_net_keeps_it_on_a_cpu(monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(Path(__file__).parents[3])
    import train_net

    calls = []
    monkeypatch.setattr(allocator, "_set", calls.append)
    small.forget_logs()
    config = ["--eval-only", "--config-file", small.FASTER, "MODEL.DEVICE", "cpu"]
    assert train_net.main([*config, "OUTPUT_DIR", str(tmp_path)]) == 1  # there are no weights
    small.forget_logs()
    assert len(calls) == 1
