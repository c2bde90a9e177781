"""What a run may take, known before it starts: memory, and room in its file."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from seqlab import measure
from seqlab.cells import CELLS
from seqlab.errors import InputError
from seqlab.host import GIB, available_memory
from seqlab.numbers.quantities import MOST_LAGS
from seqlab.spec.run import RunSpec
from seqlab.study import files
from seqlab.study.netcdf import LARGEST_ARRAY

# What makes a run large, each with a value that is not to blame.
_MODEST = {"networks": 16, "steps": 1000, "hidden": 64, "inputs": 16, "state": 16, "spectrum": 1}


def require_memory(spec: RunSpec) -> None:
    """Refuse a run that would not fit in memory, naming the option that lowers its need most.

    Raises InputError.
    """
    needed, available = measure.memory_bytes(spec), available_memory()
    if available is None or needed <= available:
        return
    option = min(_MODEST, key=lambda name: measure.memory_bytes(_lowered(spec, name)))
    raise InputError(
        f"{option}: {getattr(spec, option)} is not allowed; the run would take about "
        f"{needed / GIB:.1f} GiB of memory and {available / GIB:.1f} GiB is available: "
        f"lower {option}"
    )


def require_store(spec: RunSpec, store: Path) -> None:
    """Refuse a store that cannot take the result's file. Raises InputError."""
    require_file(spec)
    files.require_writable("store", store / f"{spec.hash}.nc", file_bytes(spec))


def require_file(spec: RunSpec) -> None:
    """Refuse a run whose result is too large for its format. Raises InputError."""
    lags, curves = _most_lags(spec), _curve_bytes(spec)
    if curves > LARGEST_ARRAY:
        raise InputError(
            f"networks: {spec.networks} is not allowed; with {len(spec.clip)} rules, "
            f"{len(spec.lengths)} lengths and {lags} lags an array has {curves / GIB:.1f} GiB, and "
            f"2 GiB is the most in a result file: lower networks, or give fewer rules or lengths"
        )


def file_bytes(spec: RunSpec) -> int:
    """About the size of the result's file, and hardly ever less."""
    kinds = 2 + len(CELLS[spec.arch].parts)  # state and input, and the state's parts
    return kinds * _curve_bytes(spec)


def _most_lags(spec: RunSpec) -> int:
    """Lags of a result file: 0, 1, every length and some more."""
    return min(spec.steps + 1, 2 + len(spec.lengths) + MOST_LAGS)


def _curve_bytes(spec: RunSpec) -> int:
    """Bytes of one part's curves: every network, rule, length and kept lag."""
    return 8 * spec.networks * len(spec.clip) * len(spec.lengths) * _most_lags(spec)


def _lowered(spec: RunSpec, name: str) -> RunSpec:
    """The spec with one size made modest, where it is larger."""
    size, modest = getattr(spec, name), _MODEST[name]
    if size is None or size <= modest:
        return spec
    changes: dict[str, Any] = {name: modest}
    if name == "steps":
        shorter = (length for length in spec.lengths if length < modest)
        changes["lengths"] = (*shorter, modest)
    return replace(spec, **changes)
