"""The machine that was measured, as far as the system tells it."""

import os
import platform
from pathlib import Path

from seqlab.bench import peers
from seqlab.kernels import backends
from seqlab.kernels.cpu.threads import thread_count
from seqlab.study.result import versions

CACHES = Path("/sys/devices/system/cpu/cpu0/cache")


def processor() -> str:
    """The processor's own name."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace").splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if "model name" in line)
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def caches() -> str:
    """The first core's caches, smallest first: "L1 data 48K, L2 1024K"."""
    found = []
    for folder in sorted(CACHES.glob("index*")):
        level, kind, size = (
            (folder / name).read_text(encoding="ascii").strip()
            for name in ("level", "type", "size")
        )
        if kind != "Instruction":
            found.append(f"L{level}{' data' if kind == 'Data' else ''} {size}")
    return ", ".join(found) or "not known"


def describe(backend: str = "cpu") -> dict[str, str]:
    """Name and value of whatever a time may depend on, our own versions included."""
    return {
        **({"GPU": backends.gpu_name()} if backend == "cuda" else {}),
        "processor": processor(),
        "cores": str(os.cpu_count()),
        "caches": caches(),
        "system": f"{platform.system()} {platform.release()}",
        "threads": str(thread_count()),
        **versions(),
        **peers.versions(),
    }
