"""Whether modules offer what kernels/contract.py says, for every cell of a backend."""

import inspect
from collections.abc import Callable
from inspect import Parameter
from typing import Any

import numpy as np
from drawn import draw

from seqlab.cells import CELLS, Sizes
from seqlab.kernels import backends, contract


def faults(backend: str) -> list[str]:
    """What a backend, its arrays, its scan and the kernels of each of its cells lack."""
    offered: dict[str, tuple[Any, type]] = {
        "backend": (backends._package(backend), contract.Backend),
        "arrays": (backends.arrays(backend), contract.TimeArrays),
        "scan": (backends.scan_kernels(backend), contract.ScanKernels),
    }
    for arch in backends.cells_of(backend):
        kernels = backends.kernels(backend, arch)
        sizes, lead = Sizes(3, 2, 2), (2, 5, 4)
        saved = kernels.save(lead, sizes, np.dtype(np.float64))
        networks, steps, *rest = saved.outputs.shape
        assert (networks, *rest) == (2, 4, 3), arch
        assert steps >= 5, arch
        offered[arch] = (kernels, contract.CellKernels)
        offered[f"{arch}, saved"] = (saved, contract.Saved)
        offered[f"{arch}, outputs"] = (saved.outputs, contract.Array)
        assert kernels.emitted_width(sizes) > 0, arch
        assert kernels.saved_width(sizes) >= sizes.hidden, arch
        params = draw(arch, hidden=3, inputs=2, state=2, networks=2).params
        activation = "tanh" if "activation" in CELLS[arch].options else None
        assert kernels.prepare(params, activation) is not None, arch
    return [
        f"{name}: {fault}" for name, (one, face) in offered.items() for fault in _lacks(one, face)
    ]


def _lacks(offered: Any, face: type) -> list[str]:
    """Members that are missing, and functions that cannot be called as the Protocol says."""
    members = {n: m for n, m in vars(face).items() if n == "__len__" or not n.startswith("_")}
    missing = [f"no {name}" for name in members if not hasattr(offered, name)]
    functions = [n for n, m in members.items() if inspect.isfunction(m) and hasattr(offered, n)]
    return missing + [
        f"{name}{inspect.signature(getattr(offered, name))}"
        for name in functions
        if inspect.ismodule(offered) and _form(getattr(offered, name)) != _form(members[name])
    ]


def _form(function: Callable[..., Any]) -> tuple[list[str], set[str]]:
    """The parameters that must be given, in order, and which kinds of others may follow."""
    parameters = [p for p in inspect.signature(function).parameters.values() if p.name != "self"]
    spread = (Parameter.VAR_POSITIONAL, Parameter.VAR_KEYWORD)
    named = [p for p in parameters if p.kind not in spread]
    needed = [p.name for p in named if p.default is Parameter.empty]
    return needed, {p.kind.description for p in parameters if p.kind in spread}
