"""The processor that the kernels are compiled for: its vector registers and its L2 cache."""

import re
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
    """What the kernels are compiled for: bytes of a vector register, how many of them there are,
    and bytes of L2 cache that a thread has to itself, with where that number is from."""

    vector: int
    registers: int
    l2: int
    l2_from: str

    @property
    def kind(self) -> str:
        """The instruction set, as benchmarks class machines."""
        return _KINDS[self.vector, self.registers]


_KINDS = {(64, 32): "avx512", (32, 16): "avx2", (16, 16): "sse", (16, 32): "neon"}

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


def _registers() -> tuple[int, int]:
    """Bytes of a vector register of the processor that LLVM compiles for, and their number."""
    machine = target_machine()
    code = machine.emit_assembly(llvm.parse_assembly(_PROBE.format(machine.triple)))
    for pattern, vector, registers in (
        (r"%zmm\d", 64, 32),
        (r"%ymm\d", 32, 16),
        (r"%xmm\d", 16, 16),
    ):
        if re.search(pattern, code):
            return vector, registers
    return 16, 32  # AArch64


def _count(cpus: str) -> int:
    """Processors of a list as Linux writes it: 0-3,8."""
    ends = [part.split("-") for part in cpus.split(",")]
    return sum(int(last[-1]) - int(last[0]) + 1 for last in ends)


def _l2_of_linux(caches: Path) -> tuple[int, str] | None:
    for folder in sorted(caches.glob("index*")):
        level, size, sharing = (
            (folder / name).read_text(encoding="ascii").strip()
            for name in ("level", "size", "shared_cpu_list")
        )
        if level == "2":
            threads = _count(sharing)
            shared = f", shared by {threads} threads" if threads > 1 else ""
            return (int(size.removesuffix("K")) << 10) // threads, f"{size}iB{shared}"
    return None


def _l2_of_macos() -> tuple[int, str]:
    names = ["hw.perflevel0.l2cachesize", "hw.perflevel0.cpusperl2"]
    answer = run(["sysctl", "-n", *names], capture_output=True, check=True)
    size, threads = map(int, answer.stdout.split())
    return size // threads, f"{size >> 10}KiB, shared by {threads} threads"


def _l2() -> tuple[int, str]:
    """Bytes of L2 cache for each thread, and how that is known."""
    try:
        found = _l2_of_macos() if sys.platform == "darwin" else _l2_of_linux(_CACHES)
    except (OSError, ValueError, SubprocessError):
        found = None
    return found or (ASSUMED_L2, "assumed: the system does not say")


PROCESSOR = Processor(*_registers(), *_l2())
