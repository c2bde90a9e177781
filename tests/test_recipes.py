"""The recipe for a new cell in CONTRIBUTING.md is whole: the cells that are there are in no other
place of the package, and a copy of the project gets one by only the files that it names, and then
passes that copy's own tests.

The cell is a network of leaky integrators, h_t = (h_{t-1} + tanh(z_t))/2 (Jaeger et al. 2007).
"""

import re
from pathlib import Path

import pytest
from toys import copied_package, insert, run_python

import seqlab
from seqlab.cells import CELLS
from seqlab.wording import one_of

CELL = '''\
"""Leaky integrators: h_t = (h_{t-1} + tanh(W_ih x_t + b_ih + W_hh h_{t-1} + b_hh))/2."""

from seqlab.cells.cell import Cell
from seqlab.cells.draws import draw_gated, gated_shapes, gated_sizes


CELL = Cell(
    name="toy",
    options=frozenset({"init", "gain"}),
    parts=("hidden",),
    shapes=lambda sizes: gated_shapes(1, sizes),
    sizes=gated_sizes,
    state_shape=lambda sizes: (1, sizes.hidden),
    draw=lambda rng, sizes, how: draw_gated(rng, sizes, how, gates=1),
)
'''

KERNELS = '''\
"""The leaky integrators on the CPU."""

from seqlab.kernels._jit import inlined_apart
from seqlab.kernels.cpu.math import tanh
from seqlab.kernels.cpu.recurrent import Recurrent


@inlined_apart
def _step(code, z, z_input, before, after, rest, k):
    half = z.dtype.type(0.5)
    for j in range(after.shape[0]):
        squashed, slope = tanh(z[j])
        after[j], k[0, j] = half * (before[j] + squashed), half * slope


@inlined_apart
def _step_back(dh, rest, k, dz, dz_input):
    half = dh.dtype.type(0.5)
    for j in range(dh.shape[0]):
        dz[0, j] = dh[j] * k[0, j]
        dh[j] *= half


_cell = Recurrent(1, 1, (0,), _step, _step_back)
prepare, save, saved_width = _cell.prepare, _cell.save, _cell.saved_width
emitted_width, forward, backward = _cell.emitted_width, _cell.forward, _cell.backward
faintest, add_gradients = _cell.faintest, _cell.add_gradients
input_gradient = _cell.input_gradient
'''

REFERENCE = '''\
"""Leaky integrators."""

import numpy as np
from naive_cell import Cell, Saved, affine_gradients, gated_shapes
from naive_functions import Array, Params, State, tanh_slope


def step(p: Params, x: Array, state: State, activation: str) -> tuple[State, Array, Saved]:
    """h' = (h + tanh(W_ih x + b_ih + W_hh h + b_hh))/2."""
    (h,) = state
    a = x @ p["weight_ih"].T + p["bias_ih"] + h @ p["weight_hh"].T + p["bias_hh"]
    new = (h + np.tanh(a)) / 2
    return (new,), new, {"x": x, "h": h, "slope": tanh_slope(a) / 2}


def pull(p: Params, s: Saved, handed: State, gy: Array) -> tuple[State, Array, Params]:
    g = handed[0] + gy
    g_a = g * s["slope"]
    back = g_a @ p["weight_hh"] + g / 2
    return (back,), g_a @ p["weight_ih"], affine_gradients(s, g_a, g_a)


def push(p: Params, s: Saved, v: State) -> State:
    return (s["slope"] * (v[0] @ p["weight_hh"].T) + v[0] / 2,)


CELL = Cell(step, pull, push, gated_shapes(1))
'''

COMMANDS = """
from seqlab.cli import main

def command(*words):
    try:
        main(words)
    except SystemExit as end:
        return end.code

command("run", "--help")
command(*"run --arch toy --steps 12 --hidden 3 --inputs 2 --networks 3 --json".split())
command("table", "seqlab-results")
command(*"plot seqlab-results -o toy.svg --kind curves --y arch".split())
print("on cuda:", command(*"run --arch toy --steps 12 --backend cuda".split()))
"""


def test_the_package_names_a_cell_where_the_recipe_says() -> None:
    """Those that PyTorch lacks, so that no layout of a framework and no peer's module is theirs.

    A probed Mamba calls a part of its cache ssm.
    """
    package = Path(seqlab.__file__).parent
    for arch in (name for name, cell in CELLS.items() if cell.names_of != "PyTorch"):
        named = re.compile(rf"""["']{arch}["']""")
        found = {
            str(path.relative_to(package))
            for path in package.rglob("*.py")
            if named.search(path.read_text(encoding="utf-8"))
        }
        found -= {"probes/adapters.py"}
        assert found == {f"cells/{arch}.py", "cells/__init__.py"}, arch


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the project with the cell: three files and its row, without CUDA."""
    folder = copied_package(tmp_path_factory.mktemp("toy"), "tests", "pyproject.toml")
    (folder / "seqlab/cells/toy.py").write_text(CELL)
    (folder / "seqlab/kernels/cpu/cells/toy.py").write_text(KERNELS)
    (folder / "tests/naive_cells/toy.py").write_text(REFERENCE)
    insert(folder / "seqlab/cells/__init__.py", '"rnn",', '    "toy",')
    return folder


def test_a_new_cell_is_in_help_documents_tables_and_figures(copy: Path) -> None:
    said = run_python(copy, COMMANDS)
    names = list(CELLS)
    names.insert(names.index("rnn") + 1, "toy")
    assert one_of(names) in " ".join(said.split())
    assert '"arch": "toy"' in said
    assert re.search(r"^toy\n  clip none  +-\d", said, re.MULTILINE)
    assert said.endswith("on cuda: 2\n")
    assert "toy" in (copy / "toy.csv").read_text()


PARITY = (
    "test_bptt_parity.py",
    "test_bptt_rules.py",
    "test_bptt_segments.py",
    "test_bptt_extremes.py",
    "test_bptt_refusals.py",
    "test_attenuation.py",
    "test_reproducible.py",
    "test_naive_cells.py",
    "test_naive_rules.py",
    "test_naive_adjoint.py",
    "test_naive_spectrum.py",
    "test_cells.py",
    "test_backends.py",
)


@pytest.mark.parametrize("jit", ["off", pytest.param("on", marks=pytest.mark.slow)])
def test_a_new_cell_is_tested_like_the_others(copy: Path, jit: str) -> None:
    """By the copy's own tests: parity with its naive reference, clip rules, curves, contract."""
    which = ["-m", "tiny"] if jit == "off" else []
    words = ["-q", "-p", "no:cacheprovider", *which, "-k", "toy or every", *PARITY]
    code = f"import os, sys, pytest; os.chdir('tests'); sys.exit(pytest.main({words}))"
    said = run_python(copy, code, jit=jit == "on")
    found = re.search(r"(\d+) passed", said)
    assert found is not None, said
    assert int(found[1]) > 40
