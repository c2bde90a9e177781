"""Compile every kernel to a GPU's machine code without a GPU, and say what it takes.

    python experiments/cuda/gate.py [SIZE ... | --write | --planted]

The host code runs as it is, on arrays of this machine, for one short forward and backward pass of
each cell, and of the bare selective scan with as many channels, at each size and precision; each
kernel that it would launch is compiled for just those arguments instead. A kernel passes if the
assembler's log has no spill and no stack, if its block fits a multiprocessor, and if, in float32,
it has no float64 instruction. The table, or what of it is of the sizes given, must equal the
committed one beside this file, which `--write` replaces; `--planted` gates two bad kernels.
"""

import argparse
import csv
import re
import sys
from collections.abc import Callable
from multiprocessing import get_context
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
from cuda.bindings import nvjitlink
from numba import typeof
from numba.cuda import dispatcher

import seqlab
from seqlab.cells import CELLS, Draw, Sizes
from seqlab.engine import bptt
from seqlab.kernels.backends import cells_of
from seqlab.kernels.cuda import target

COMPUTE = (9, 0)
HIDDEN = (16, 33, 64, 128, 256)
SEQUENCES = 4  # fills a block's rows
SCAN, STATES = "scan", 16
REGISTERS, SHARED_BYTES, THREADS, BLOCKS = 65_536, 227 << 10, 2048, 32  # of a multiprocessor
TABLE = Path(__file__).with_name("gate.csv")
cuda: Any = target.cuda


class Row(NamedTuple):
    """What one kernel takes; `blocks` fit a multiprocessor at once."""

    cell: str
    hidden: int
    dtype: str
    kernel: str
    threads: int
    registers: int
    shared: int
    blocks: int


class Machine(NamedTuple):
    """What a kernel's machine code takes, and what is wrong with it."""

    registers: int
    shared: int
    faults: tuple[str, ...]


def found(pattern: str, log: str) -> int:
    """The largest number that follows a pattern, 0 where there is none."""
    return max(map(int, re.findall(pattern, log)), default=0)


def link(codes: list[Any], *options: str) -> Any:
    """A finished link of some LTO-IR; the caller destroys it."""
    flags = [f"-arch=sm_{COMPUTE[0]}{COMPUTE[1]}", "-lto", *options]
    handle = nvjitlink.create(len(flags), flags)
    for index, code in enumerate(codes):
        data = code if isinstance(code, bytes) else bytes(code.code)
        kind = nvjitlink.InputType.LTOIR
        nvjitlink.add_data(handle, kind, data, len(data), f"part{index}")
    nvjitlink.complete(handle)
    return handle


def assemble(function: Callable, signature: tuple[Any, ...], single: bool) -> Machine:
    """Compile a kernel; `single` says that all its reals should be float32."""
    options = {"cc": COMPUTE, "device": False, "abi": "numba", "output": "ltoir"}
    codes, _ = cuda.compile_all(function, signature, **options)
    handle = link(codes, "-verbose", "-Xptxas=-v")
    buffer = bytearray(nvjitlink.get_info_log_size(handle))
    nvjitlink.get_info_log(handle, buffer)
    nvjitlink.destroy(handle)
    log = buffer.decode()
    registers = found(r"Used (\d+) registers", log)
    if not registers:
        raise RuntimeError(f"the assembler's log is not understood: {log}")
    faults = [
        f"{size} bytes of {what}"
        for what in ("stack frame", "spill stores", "spill loads")
        if (size := found(rf"(\d+) bytes {what}", log))
    ]
    if single:
        handle = link(codes, "-ptx")
        ptx = bytearray(nvjitlink.get_linked_ptx_size(handle))
        nvjitlink.get_linked_ptx(handle, ptx)
        nvjitlink.destroy(handle)
        if count := len(re.findall(r"\.f64\b", ptx.decode())):
            faults.append(f"{count} mentions of float64")
    return Machine(registers, found(r"(\d+) bytes smem", log), tuple(faults))


class OnHost(np.ndarray):
    """An array of this machine that the host code takes for a device's."""

    def copy_to_host(self, out: Any = None) -> Any:
        if out is None:
            return np.array(self)
        out[...] = self
        return out


class Instead:
    """What stands in a kernel's place: a launch compiles it, once for each signature."""

    def __init__(self, function: Callable) -> None:
        self.function = function
        self.name = f"{function.__module__.rpartition('.')[2]}.{function.__name__}"
        self._known: dict[Any, Machine] = {}

    def __getitem__(self, configuration: tuple[int, int]) -> Callable:
        return lambda *args: self._launch(configuration[1], args)

    def _launch(self, threads: int, args: tuple[Any, ...]) -> None:
        signature = tuple(typeof(arg) for arg in args)
        if signature not in self._known:
            single = "float64" not in str(signature)
            self._known[signature] = assemble(self.function, signature, single)
        LAUNCHED.setdefault(self.name, []).append((threads, self._known[signature]))


LAUNCHED: dict[str, list[tuple[int, Machine]]] = {}


def stand_in() -> SimpleNamespace:
    """The names of the CUDA package that the target module calls."""

    def jit(function: Callable, device: bool = False) -> Any:
        return cuda.jit(function, device=True) if device else Instead(function)

    return SimpleNamespace(
        jit=jit,
        is_available=lambda: True,
        device_array=lambda shape, dtype: np.zeros(shape, dtype).view(OnHost),
        to_device=lambda array: np.array(array).view(OnHost),
    )


def fitting(threads: int, machine: Machine) -> int:
    """Blocks that a multiprocessor holds at once; registers are given out by 8 a thread."""
    registers = -(-machine.registers // 8) * 8 * threads
    shared = machine.shared + 1024  # which the system takes of each block
    return min(REGISTERS // registers, SHARED_BYTES // shared, THREADS // threads, BLOCKS)


def gate(task: tuple[str, str, tuple[int, ...]]) -> tuple[list[Row], list[str]]:
    """The rows of one cell and precision at some sizes, and what is wrong with them."""
    arch, dtype, sizes = task
    rows, faults = [], []
    for hidden in sizes:
        LAUNCHED.clear()
        run_once(arch, hidden, np.dtype(dtype))
        for name, launches in LAUNCHED.items():
            threads = max(threads for threads, _ in launches)
            machines = {machine for _, machine in launches}
            worst = max(machines, key=lambda machine: machine.registers)
            blocks = fitting(threads, worst)
            row = Row(arch, hidden, dtype, name, threads, *worst[:2], blocks)
            rows.append(row)
            wrong = [fault for machine in machines for fault in machine.faults]
            wrong += [] if blocks else ["no block fits a multiprocessor"]
            faults += [f"{arch} H={hidden} {dtype} {name}: {fault}" for fault in wrong]
    return rows, faults


def run_once(arch: str, hidden: int, dtype: np.dtype) -> None:
    """A forward and a backward pass of two steps; their numbers mean nothing."""
    if arch == SCAN:
        scan_once(hidden, dtype)
        return
    cell, sizes = CELLS[arch], Sizes(hidden, 16)
    drawn = cell.draw(np.random.default_rng(0), sizes, Draw())
    params = {name: value.astype(dtype) for name, value in drawn.items()}
    trajectory = bptt.forward(arch, params, np.zeros((2, SEQUENCES, 16), dtype), backend="cuda")
    with np.errstate(all="ignore"):
        bptt.backward(trajectory, np.ones((2, SEQUENCES, hidden), dtype))
    # No exponent differs from zero there, so that nothing is scaled.
    rows = trajectory.tape.arrays.room((1, 2, 16), dtype)
    trajectory.tape.arrays.scale(rows, np.ones((1, 2), np.int64))


def scan_once(channels: int, dtype: np.dtype) -> None:
    """The same of the bare selective scan, with all its options."""
    steps, shared = np.zeros((2, channels, 2), dtype), np.zeros((2, STATES, 2), dtype)
    each = np.zeros(channels, dtype)
    given = {"u": steps, "delta": steps, "A": np.zeros((channels, STATES), dtype)}
    given |= {"B": shared, "C": shared, "D": each, "z": steps, "delta_bias": each}
    seqlab.selective_scan(**given, delta_softplus=True, backend="cuda")
    seqlab.selective_scan_backward(steps, **given, delta_softplus=True, backend="cuda")


def planted() -> list[str]:
    """What the gate says of a kernel that spills, and of one with a float64 literal."""

    def spilling(values: Any, where: Any) -> None:
        kept = cuda.local.array(64, np.float32)
        for k in range(64):
            kept[where[k]] = values[k]
        for k in range(64):
            values[k] = kept[where[63 - k]]

    def widening(values: Any) -> None:
        values[0] = values[0] * 0.1

    values, where = typeof(np.zeros(1, np.float32)), typeof(np.zeros(1, np.int64))
    return [
        *assemble(spilling, (values, where), True).faults,
        *assemble(widening, (values,), True).faults,
    ]


def main() -> int:
    """Gate everything; 0 if all is well."""
    asked = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    asked.add_argument("sizes", nargs="*", type=int, metavar="SIZE", help="units [all]")
    asked.add_argument("--write", action="store_true", help="replace the committed table")
    asked.add_argument("--planted", action="store_true", help="gate two bad kernels; must fail")
    options = asked.parse_args()
    if options.planted:
        faults = planted()
        print(*faults, sep="\n", file=sys.stderr)
        return int(len(faults) > 0)
    sizes = tuple(size for size in HIDDEN if options.write or size in (options.sizes or HIDDEN))
    if not {*options.sizes} <= {*HIDDEN}:
        asked.error(f"sizes: allowed are {', '.join(map(str, HIDDEN))}")
    tasks = [
        (arch, dtype, sizes)
        for arch in (*cells_of("cuda"), SCAN)
        for dtype in ("float64", "float32")
    ]
    with get_context("spawn").Pool(2) as pool:
        results = pool.map(gate, tasks, chunksize=1)
    rows = [Row._fields, *(tuple(map(str, row)) for part, _ in results for row in part)]
    faults = [fault for _, part in results for fault in part]
    if options.write:
        with TABLE.open("w", newline="") as file:
            csv.writer(file, lineterminator="\n").writerows(rows)
    with TABLE.open(newline="") as file:
        head, *others = [tuple(row) for row in csv.reader(file)]
    committed = [head, *(row for row in others if int(row[1]) in sizes)]
    faults += [f"not in {TABLE.name}: {','.join(row)}" for row in rows if row not in committed]
    faults += [f"only in {TABLE.name}: {','.join(row)}" for row in committed if row not in rows]
    print(*faults, f"{len(rows) - 1} kernels, {len(faults)} faults", sep="\n", file=sys.stderr)
    return int(len(faults) > 0)


dispatcher.get_current_device = lambda: SimpleNamespace(compute_capability=COMPUTE)
target.package = stand_in()

if __name__ == "__main__":
    sys.exit(main())
