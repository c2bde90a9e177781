"""The processor that the kernels are compiled for: its vector registers and its L2 cache."""

import platform
import sys
from pathlib import Path
from subprocess import SubprocessError, run
from typing import Any, NamedTuple

import llvmlite.binding as llvm
import numba
from numba.core.registry import cpu_target

_settings: Any = numba.config  # Numba's types leave them out

# A processor that is named (NUMBA_CPU_NAME) has its own instruction sets, as Numba has it for
# `generic` alone: with those of this machine besides, its code would run on no other.
if _settings.CPU_NAME is not None and _settings.CPU_FEATURES is None:
    _settings.CPU_FEATURES = ""

ASSUMED_L2 = 512 << 10  # bytes, where the system does not say: what most laptops have at least
_CACHES = Path("/sys/devices/system/cpu/cpu0/cache")


class Processor(NamedTuple):
    """What the kernels are compiled for: the instruction set, by which benchmarks class machines;
    bytes of a vector register and how many of them there are; bytes of L2 cache that a thread has
    to itself, and how that is known."""

    kind: str
    vector: int
    registers: int
    l2: int
    l2_from: str


# By instruction set how assemblers name the widest registers, their bytes and their number.
KINDS = {
    "avx512": ("%zmm", 64, 32),
    "avx2": ("%ymm", 32, 16),
    "sse": ("%xmm", 16, 16),
    "neon": (".4s", 16, 32),
}

# What a sum of sixteen numbers in float32 is compiled to tells how wide vectors are.
_PROBE = """
target triple = "{}"
define void @probe(ptr %a, ptr %b) {{
  %x = load <16 x float>, ptr %a
  %y = load <16 x float>, ptr %b
  %sum = fadd <16 x float> %x, %y
  store <16 x float> %sum, ptr %a
  ret void
}}
"""


def target_machine() -> Any:
    """LLVM's own description of what Numba compiles for."""
    return cpu_target.target_context.codegen()._tm


def _registers() -> tuple[str, int, int]:
    """The instruction set that LLVM compiles for, bytes of its vector registers, and their number;
    the least there is for one that is not known here."""
    machine = target_machine()
    code = machine.emit_assembly(llvm.parse_assembly(_PROBE.format(machine.triple)))
    for kind, (name, vector, registers) in KINDS.items():
        if name in code:
            return kind, vector, registers
    return platform.machine(), 16, 16


def _count(cpus: str) -> int:
    """Processors of a list as Linux writes it: 0-3,8."""
    ends = [part.split("-") for part in cpus.split(",")]
    return sum(int(last[-1]) - int(last[0]) + 1 for last in ends)


class Cache(NamedTuple):
    """One of a core's caches: its level, what is in it in Linux's word, bytes, and how many threads
    share it."""

    level: int
    content: str
    size: int
    threads: int


def caches_of_linux(folder: Path = _CACHES) -> list[Cache]:
    """The first core's caches, smallest first; none where the system does not say.

    Raises OSError and ValueError for files that are not as Linux has them.
    """
    found = []
    for index in sorted(folder.glob("index*")):
        level, content, size, sharing = (
            (index / name).read_text(encoding="ascii").strip()
            for name in ("level", "type", "size", "shared_cpu_list")
        )
        size_bytes = int(size.removesuffix("K")) << 10
        found.append(Cache(int(level), content, size_bytes, _count(sharing)))
    return found


def _l2_of_linux(folder: Path) -> tuple[int, int] | None:
    """Bytes of the first core's L2 cache, and how many threads share it."""
    found = [(cache.size, cache.threads) for cache in caches_of_linux(folder) if cache.level == 2]
    return found[0] if found else None


def _l2_of_macos() -> tuple[int, int]:
    names = ["hw.perflevel0.l2cachesize", "hw.perflevel0.cpusperl2"]
    answer = run(["sysctl", "-n", *names], capture_output=True, check=True)
    size, threads = map(int, answer.stdout.split())
    return size, threads


def _l2(caches: Path = _CACHES) -> tuple[int, str]:
    """Bytes of L2 cache for each thread, and how that is known."""
    try:
        found = _l2_of_macos() if sys.platform == "darwin" else _l2_of_linux(caches)
    except (OSError, ValueError, SubprocessError):
        found = None
    if found is None:
        return ASSUMED_L2, "assumed: the system does not say"
    size, threads = found
    return size // threads, "of its own" if threads == 1 else f"{threads} threads share one"


PROCESSOR = Processor(*_registers(), *_l2())
