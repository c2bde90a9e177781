"""What a run may take, known before it starts: memory, and room in its file."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

from seqlab.errors import InputError
from seqlab.host import GIB, available_memory
from seqlab.spec import kinds
from seqlab.spec.kinds import Spec
from seqlab.study import files
from seqlab.study.netcdf import LARGEST_ARRAY


def require_memory(spec: Spec) -> None:
    """Refuse a run that would not fit in memory, naming the option that lowers its need most.

    Raises InputError.
    """
    needed, available = _memory(spec), available_memory()
    if available is None or needed <= available:
        return
    table = kinds.of_spec(spec).table
    sizes = {row.name: row.modest for row in table.values() if row.modest is not None}
    left = {name: _memory(_lowered(spec, name, modest)) for name, modest in sizes.items()}
    # Of equal ones the number of networks: lowering it changes nothing else that is measured.
    option = min(sizes, key=lambda name: (left[name], name != "networks"))
    raise InputError(
        f"{option}: {getattr(spec, option)} is not allowed; the run would take about "
        f"{needed / GIB:.1f} GiB of memory and {available / GIB:.1f} GiB is available: "
        f"lower {option}"
    )


def require_store(spec: Spec, store: Path) -> None:
    """Refuse a store that cannot take the result's file. Raises InputError."""
    require_file(spec)
    files.require_writable("store", store / f"{spec.hash}.nc", kinds.cost(spec).file_bytes(spec))


def require_file(spec: Spec) -> None:
    """Refuse a run whose result is too large for its format. Raises InputError."""
    networks, rules, lengths, lags = shape = kinds.cost(spec).curve_shape(spec)
    curves = 8 * math.prod(shape)
    if curves > LARGEST_ARRAY:
        raise InputError(
            f"networks: {networks} is not allowed; with {rules} rules, {lengths} lengths and "
            f"{lags} lags an array has {curves / GIB:.1f} GiB, and 2 GiB is the most in a result "
            f"file: lower networks, or give fewer rules or lengths"
        )


def _memory(spec: Spec) -> int:
    return kinds.cost(spec).memory_bytes(spec)


def _lowered(spec: Spec, name: str, modest: int) -> Spec:
    """The spec with one size made modest, where it is larger."""
    size = getattr(spec, name)
    if size is None or size <= modest:
        return spec
    changes: dict[str, Any] = {name: modest}
    if name == "steps":
        shorter = (length for length in spec.lengths if length < modest)
        changes["lengths"] = (*shorter, modest)
    return replace(spec, **changes)
