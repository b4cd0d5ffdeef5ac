"""What the processor computes by instructions of its own, rather than by emulation."""

from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path

import torch

_CPUINFO = Path("/proc/cpuinfo")
# Names in torch's and Linux's lists, which spell some differently; those of Arm come last.
_ABILITIES = {
    "AVX2": {"avx2"},
    "AVX-512": {"avx512_f", "avx512f"},
    "VNNI": {"avx512_vnni", "avx_vnni"},
    "BF16": {"avx512_bf16", "amx_bf16", "bf16"},
    "FP16": {"avx512_fp16", "amx_fp16", "asimdhp"},
    "AMX": {"amx_tile"},
}


@lru_cache(maxsize=1)
def abilities() -> tuple[str, ...]:
    """The processor's, of AVX2, AVX-512, VNNI (int8), BF16, FP16 and AMX; empty if unknown."""
    flags = set(_flags())
    return tuple(name for name, known in _ABILITIES.items() if known & flags)


def _flags() -> Iterable[str]:
    # An older torch has no such function.
    found = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    if found:
        return [name for name, has in found.items() if has is True]
    if not _CPUINFO.is_file():
        return []
    lines = _CPUINFO.read_text(errors="replace").splitlines()
    named = (line.partition(":")[2] for line in lines if line.startswith(("flags", "Features")))
    return next(named, "").split()
