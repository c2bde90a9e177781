"""What the kernels' inner loops are compiled to, for processors that need not be here.

    python tests/machine_code.py [--write | --show TARGET]

compiles every kernel for each target and compares with the committed table beside this file, which
`--write` makes anew. Code is generated and read, never run: LLVM knows every target, and the host
code goes on with what kernels that do nothing leave.
"""

import argparse
import csv
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import llvmlite
import llvmlite.binding as llvm
import numpy as np
from numba import typeof
from numba.core.caching import NullCache
from numba.core.codegen import JITCodeLibrary
from numba.core.compiler_lock import global_compiler_lock
from numba.core.registry import cpu_target

TARGETS = {
    "haswell": "x86_64-unknown-linux-gnu",
    "x86-64-v2": "x86_64-unknown-linux-gnu",
    "neoverse-n1": "aarch64-unknown-linux-gnu",
}
TABLE = Path(__file__).with_suffix(".csv")

# Floating-point arithmetic on vectors and on single numbers, as each assembler writes it.
_X86 = r"v?(?:add|sub|mul|div|sqrt|max|min|fn?m(?:add|sub)\d+)"
_VECTOR = re.compile(rf"^\s+(?:{_X86}p[sd]|f(?:add|sub|mul|div|ml[as])\s+v\d)", re.MULTILINE)
_SCALAR = re.compile(
    rf"^\s+(?:{_X86}s[sd]|f(?:add|sub|mul|div|n?m(?:add|sub))\s+[sd]\d)", re.MULTILINE
)
# A vector register moved to memory or back for want of another. Of those that hold addresses there
# are always some.
_SPILL = re.compile(r"(?:16|32|64)-byte (?:Folded )?(?:Spill|Reload)")
_BLOCK = re.compile(r"^(?:\.LBB\d+_\d+:|(?:#|//) %bb\.\d+:)", re.MULTILINE)
_LABEL = re.compile(r"\.L(BB\d+_\d+):")
_MEMBER = re.compile(r"in Loop: Header=(BB\d+_\d+) ")


class Code(NamedTuple):
    """A kernel's inner loops on vectors and on single numbers, and spills within the former."""

    vector: int
    scalar: int
    spills: int


def _inner_loops(assembly: str) -> Iterator[str]:
    """The text of every inner loop, as LLVM's own comments tell them."""
    loops: dict[str, str] = {}
    starts = [match.start() for match in _BLOCK.finditer(assembly)]
    for start, end in zip(starts, [*starts[1:], len(assembly)], strict=True):
        block = assembly[start:end]
        if "This Inner Loop Header" in block:
            loops[_LABEL.findall(block)[0]] = block
        elif (member := _MEMBER.search(block)) and member[1] in loops:
            loops[member[1]] += block
    yield from loops.values()


def read(assembly: str) -> Code:
    """What a kernel's inner loops are made of."""
    loops = list(_inner_loops(assembly))
    vectors = [loop for loop in loops if _VECTOR.search(loop)]
    scalars = [loop for loop in loops if not _VECTOR.search(loop) and _SCALAR.search(loop)]
    return Code(len(vectors), len(scalars), sum(len(_SPILL.findall(loop)) for loop in vectors))


def _compile_for(target: str) -> None:
    """Let Numba generate code for another processor, that no engine takes: it has no address."""
    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()
    machine = llvm.Target.from_triple(TARGETS[target]).create_target_machine(cpu=target, opt=3)
    machine.set_asm_verbosity(True)
    codegen: Any = cpu_target.target_context.codegen()
    codegen._tm = machine
    codegen.set_env = lambda name, environment: None

    def finalise(library: Any) -> None:
        library._finalize_dynamic_globals()
        library._finalized = True

    library_class: Any = JITCodeLibrary
    library_class._finalize_final_module = finalise
    library_class.get_pointer_to_function = lambda library, name: 0


def _assembly(library: Any, triple: str) -> str:
    """Of an optimised module, whose triple and layout are still this machine's."""
    with global_compiler_lock:
        library._ensure_finalized()
    text = re.sub(r"^target .*$", "", str(library._final_module), flags=re.MULTILINE)
    module = llvm.parse_assembly(text)
    module.triple = triple
    return str(library._codegen._tm.emit_assembly(module))


def _keep(codes: dict[str, Code], case: Callable[[], str], triple: str) -> None:
    """Let every kernel that is called leave its code in `codes`, and do nothing else."""
    from seqlab.kernels import _jit

    compiled = _jit.compiled

    def kernel(function: Callable) -> Callable:
        dispatcher = compiled(function)
        dispatcher._cache = NullCache()

        def call(*arguments: Any) -> None:
            signature = tuple(map(typeof, arguments))
            if signature not in dispatcher.overloads:
                dispatcher.compile(signature)
                library = dispatcher.overloads[signature].library
                name = f"{case()}: {function.__name__.strip('_')}"
                codes[name] = read(_assembly(library, triple))

        return call

    _jit.compiled = kernel


def layer_kernels(dtype: np.dtype) -> Iterator[tuple[str, Callable[[], Any]]]:
    """Calls of what the parts of deep stacks are made of, under their names, and of what carries an
    adjoint from layer to layer. Numbers have no say in how these are compiled, only types."""
    from seqlab.kernels.cpu.layers import attention, elementwise, linear, norm, statistics
    from seqlab.kernels.cpu.layers.places import View
    from seqlab.layers.parts import Norm
    from seqlab.layers.stack import Stack
    from seqlab.measure.stack_gradients import backpropagate, drive_of

    def view(units: int) -> View:
        return View(np.ones((1, 1, units, 32), dtype), 0, 0, units)

    one, other, mixed, part = view(64), view(64), view(192), Norm(False, 1, 0.0)
    of, x = linear.Map(0, 64 * 64, 64, 64, 0), np.ones((1, 1, 1, 64 * 65 + 1), dtype)
    scales, weights = np.ones((1, 1, 1, 32), dtype), np.ones((1, 1, 4, 32, 32), dtype)
    yield "linear", lambda: linear.forward(x, 0, of, one, other)
    group, found = linear.Group(1, 0, 1, True), np.ones((1, 1, 1, 4, 2))
    yield "linear", lambda: linear.gradient(of, one, other, group, 32, found, x)
    yield "norm", lambda: norm.forward(part, one, scales, 0, 32)
    yield "norm", lambda: norm.back(part, one, other, scales, 0, 32)
    yield "attention", lambda: attention.forward(mixed, one, weights, 0, weights.shape[3])
    yield "attention", lambda: attention.back(one, mixed, mixed, weights, 0)
    yield "elementwise", lambda: elementwise.slopes(one, other.array, 0, one)
    yield "elementwise", lambda: elementwise.combine(one, 0.5, other, True)
    yield "statistics", lambda: statistics.state_statistics(one, 32)
    stack, rows = Stack("mlp", 1, 64, 32, "tanh"), np.ones((1, 32, 64), dtype)
    yield "chain", lambda: backpropagate(stack, drive_of(x[0, ..., :-1]), rows, rows)


def codes_for(target: str) -> dict[str, Code]:
    """The code of every kernel, by cell, dtype and name; in this process none can be run then."""
    codes: dict[str, Code] = {}
    case = ""
    _compile_for(target)
    _keep(codes, lambda: case, TARGETS[target])

    import seqlab
    from seqlab.cells import CELLS, Draw, Sizes
    from seqlab.kernels.cpu import team
    from seqlab.kernels.cpu.layers.activation import activation_kernel
    from seqlab.kernels.cpu.shapes import SHAPES
    from seqlab.layers.activation import KINDS

    def there_and_back(arch: str, dtype: np.dtype, units: int, sequences: int) -> None:
        drawn = CELLS[arch].draw(np.random.default_rng(0), Sizes(units, 16), Draw())
        params = {name: value.astype(dtype) for name, value in drawn.items()}
        trajectory = seqlab.forward(arch, params, np.zeros((40, sequences, 16), dtype))
        seqlab.backward(trajectory, np.ones((40, sequences, units), dtype))

    os.environ["NUMBA_NUM_THREADS"] = "1"
    for dtype in map(np.dtype, (np.float32, np.float64)):
        for arch in CELLS:
            case = f"{arch} {dtype}"
            there_and_back(arch, dtype, units=64, sequences=4)
        case = f"scan {dtype}"
        u, b = np.ones((2, 64, 40), dtype), np.ones((2, 16, 40), dtype)
        given = {"u": u, "delta": u, "A": -np.ones((64, 16), dtype), "B": b, "C": b, "z": u}
        seqlab.selective_scan(**given)
        seqlab.selective_scan_backward(u, **given)
        for name, call in layer_kernels(dtype):
            case = f"{name} {dtype}"
            call()
        for kind, name in enumerate(KINDS):
            if name not in ("identity", "relu"):  # which have no arithmetic to tell vectors by
                case, z = f"{name} {dtype}", np.ones((1, 1, 8, 64), dtype)
                activation_kernel(kind)(z, z, z.copy(), 0, 0, 0, 64, 1.0, 1.0, None, 0, 1)
        # A team has kernels of its own; one cell's show all that there is to see.
        case, team.SHARE = f"team {dtype}", 1
        os.environ["NUMBA_NUM_THREADS"] = "4"
        there_and_back("lstm", dtype, units=256, sequences=1)
        os.environ["NUMBA_NUM_THREADS"], team.SHARE = "1", SHAPES.team
    return codes


def committed() -> tuple[str, dict[str, dict[str, Code]]]:
    """The version of llvmlite that the table was made with, and its rows by target."""
    with TABLE.open(encoding="ascii", newline="") as file:
        version = file.readline().removeprefix("llvmlite ").strip()
        rows: dict[str, dict[str, Code]] = {}
        for target, kernel, *counts in list(csv.reader(file))[1:]:
            rows.setdefault(target, {})[kernel] = Code(*map(int, counts))
    return version, rows


def ask(target: str) -> dict[str, Code]:
    """`codes_for` in a process of its own."""
    command = [sys.executable, __file__, "--show", target]
    shown = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout
    return {row[0]: Code(*map(int, row[1:])) for row in csv.reader(shown.splitlines())}


def main() -> None:
    """The command that the module's docstring tells."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--show", choices=TARGETS)
    options = parser.parse_args()
    if options.show:
        with np.errstate(all="ignore"):
            codes = codes_for(options.show)
        csv.writer(sys.stdout).writerows([name, *code] for name, code in codes.items())
        return
    rows = {target: ask(target) for target in TARGETS}
    if options.write:
        with TABLE.open("w", encoding="ascii", newline="") as file:
            file.write(f"llvmlite {llvmlite.__version__}\n")
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(["target", "kernel", *Code._fields])
            for target, codes in rows.items():
                writer.writerows([target, name, *code] for name, code in sorted(codes.items()))
    elif rows != committed()[1]:
        sys.exit("the code differs from the table")


if __name__ == "__main__":
    main()
