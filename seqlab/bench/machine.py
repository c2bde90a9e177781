"""The machine that was measured, as far as the system tells it."""

import os
import platform
from pathlib import Path

from seqlab.bench import peers
from seqlab.kernels import backends
from seqlab.kernels.cpu.threads import thread_count
from seqlab.kernels.processor import KINDS, PROCESSOR, caches_of_linux
from seqlab.study.result import versions

GPU = "cuda"
CLASSES = (*KINDS, GPU)


def machine_class(backend: str = "cpu") -> str:
    """The class of machines that this one's times can be compared with: of CLASSES, or where its
    vectors are not known, the name of the architecture."""
    return GPU if backend == GPU else PROCESSOR.kind


def processor() -> str:
    """The processor's own name."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace").splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if "model name" in line)
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def caches() -> str:
    """The first core's caches, smallest first: "L1 data 48K, L2 1024K"."""
    try:
        found = [cache for cache in caches_of_linux() if cache.content != "Instruction"]
    except (OSError, ValueError):
        found = []
    data = [" data" if cache.content == "Data" else "" for cache in found]
    told = [f"L{c.level}{kind} {c.size >> 10}K" for c, kind in zip(found, data, strict=True)]
    return ", ".join(told) or "not known"


def describe(backend: str = "cpu") -> dict[str, str]:
    """Name and value of whatever a time may depend on, our own versions included."""
    asked = (os.environ.get(name, "") for name in ("NUMBA_CPU_NAME", "NUMBA_CPU_FEATURES"))
    compiled_for = " ".join(filter(None, asked))  # instead of for the processor
    return {
        **({"GPU": backends.gpu_name()} if backend == GPU else {}),
        "processor": processor(),
        **({"compiled for": compiled_for} if compiled_for else {}),
        "cores": str(os.cpu_count()),
        "caches": caches(),
        "system": f"{platform.system()} {platform.release()}",
        "threads": str(thread_count()),
        **versions(),
        **peers.versions(),
    }
