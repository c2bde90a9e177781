"""What kernels are given: one kind of array, whatever came in, so that none is compiled anew."""

import gc
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
from drawn import ARCHS, draw, draw_layered
from naive import Array
from numba.core.dispatcher import Dispatcher
from tensors import NUMBERS, same_numbers, scan_arguments

import seqlab
from seqlab.kernels import _jit
from seqlab.values import as_array, for_kernels


def locked(array: Array) -> Array:
    """The same, read-only."""
    copy = array.copy()
    copy.setflags(write=False)
    return copy


def unaligned(array: Array) -> Array:
    """The same, one byte off."""
    raw = np.zeros(array.nbytes + 1, np.uint8)[1:]
    copy = raw.view(array.dtype).reshape(array.shape)
    copy[...] = array
    assert not copy.flags.aligned
    return copy


KINDS = {
    "read-only": locked,
    "unaligned": unaligned,
    "read-only and unaligned": lambda a: np.lib.stride_tricks.as_strided(
        unaligned(a), writeable=False
    ),
    "columns first": np.asfortranarray,
    "turned round": lambda a: a[..., ::-1].copy()[..., ::-1],
    "broadcast": lambda a: np.broadcast_to(a, a.shape),
    "lists": lambda a: a.tolist(),
}


@pytest.mark.tiny
@pytest.mark.parametrize("kind", KINDS)
def test_kernels_get_one_kind_of_array(kind: str) -> None:
    given = as_array("x", KINDS[kind](NUMBERS))
    array = for_kernels("x", given)
    assert same_numbers(array)
    assert array.flags.c_contiguous
    assert array.flags.aligned
    assert array.flags.writeable


@pytest.mark.tiny
def test_a_read_only_array_is_neither_copied_nor_let_go() -> None:
    given = locked(NUMBERS)
    array = for_kernels("x", given)
    assert np.shares_memory(array, given)
    assert not given.flags.writeable
    del given
    assert same_numbers(array)


def kernels() -> list[Any]:
    """Those there are, those that a cell's maker holds included."""
    return [
        kernel
        for kernel in gc.get_objects()
        if issubclass(type(kernel), Dispatcher) and kernel.__module__.startswith("seqlab.")
    ]


def scans(kind: Callable[[Array], Any]) -> None:
    grad, given = scan_arguments()
    given = {name: kind(value) for name, value in given.items()}
    seqlab.selective_scan(**given)
    seqlab.selective_scan_backward(kind(grad), **given)


def cells(arch: str, networks: int, kind: Callable[[Array], Any]) -> None:
    run = draw(arch, networks=networks).each(kind)
    trajectory = seqlab.forward(arch, run.params, run.x, run.initial)
    seqlab.backward(trajectory, run.grad, clip="step-norm:1")
    readout = kind(np.ones(3))
    seqlab.attenuation(arch, run.params, run.x, [2, 5], readout=readout)


CALLS: dict[str, Callable[..., None]] = {"scan": scans}
for _arch in ARCHS:
    for _networks in (0, 2):
        CALLS[f"{_arch}-{_networks}"] = partial(cells, _arch, _networks)


@pytest.mark.skipif(_jit.DISABLED, reason="nothing is compiled without the JIT")
@pytest.mark.parametrize("call", CALLS)
def test_no_kind_of_array_compiles_a_kernel_anew(call: str) -> None:
    CALLS[call](np.array)
    known = kernels()
    before = [len(kernel.overloads) for kernel in known]
    assert sum(before) >= 2  # the ways forward and back, compiled or read from the cache
    for name, kind in KINDS.items():
        CALLS[call](kind)
        assert [len(kernel.overloads) for kernel in known] == before, name
    assert len(kernels()) == len(known)


@pytest.mark.skipif(_jit.DISABLED, reason="nothing is compiled without the JIT")
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_the_way_back_of_one_layer_serves_several(dtype: type) -> None:
    """Whether dL/dx is kept, as a layer's is for the one below, or not."""
    versions = []
    for run in (draw("gru"), draw_layered("gru", 2)):
        given = run.cast(dtype)
        seqlab.attenuation("gru", given.params, given.x, [2, 5])
        ways = [kernel for kernel in kernels() if kernel.py_func.__name__ == "backward"]
        versions.append([len(kernel.overloads) for kernel in ways])
    assert versions[0] == versions[1]
    assert sum(versions[0]) >= 1
