"""A user's arrays, checked and brought to one form: an ensemble of networks with its drive."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from seqlab.cells import (
    ACTIVATIONS,
    CELLS,
    Cell,
    Parameters,
    Sizes,
    in_layers,
    layer_sizes,
    suffix,
)
from seqlab.engine.sums import Sums
from seqlab.engine.tape import Level, Tape
from seqlab.errors import InputError
from seqlab.kernels import backends
from seqlab.kernels.contract import Array
from seqlab.kernels.layout import on_gpu
from seqlab.spec import naming
from seqlab.values import as_array, check_dtype, check_form, for_kernels

Result = TypeVar("Result")


@dataclass(frozen=True)
class Ensemble:
    """M networks of one cell: params (M, ...), drive x (M, T, B, I), first state (M, B, P, H).

    x may live on a GPU, where answers go then. `single` says that the user gave one network without
    the M axis, and wants answers without it. `names` has the name under which each parameter was
    given; biases that were not, and are zero, are none.
    """

    cell: Cell
    sizes: Sizes
    params: Parameters
    x: Array
    state: NDArray
    activation: str | None
    single: bool
    names: dict[str, str]

    def over_tapes(self, backend: str, work: Callable[[range, Tape], Result]) -> list[Result]:
        """[work(networks, tape)] over blocks of networks, each with a tape that has not run."""
        networks, steps, sequences = self.x.shape[:3]
        width = saved_width(self.cell, self.sizes, backend)
        each = steps * sequences * width * self.x.dtype.itemsize
        blocks = backends.blocks(backend, networks, each)
        sharers = backends.at_once(backend, blocks)

        def one(block: range) -> Result:
            return work(block, self.subset(block).tape(backend, sharers))

        return backends.over_blocks(backend, blocks, one)

    def tape(self, backend: str, sharers: int = 1) -> Tape:
        """One tape of all networks on a resolved backend, not yet run, one of as many at once."""
        cell, kernels = self.cell, backends.kernels(backend, self.cell.name)
        one, levels = cell.layer or cell, list[Level]()
        for layer in range(cell.layers):
            sizes, end = layer_sizes(self.sizes, layer), suffix(layer, cell.layers)
            params = {name: self.params[f"{name}{end}"] for name in one.shapes(sizes)}
            weights = kernels.prepare(params, self.activation)
            levels.append(Level(one, kernels, weights, sizes, end))
        return Tape(backend, levels, self.x, self.state, sharers)

    def subset(self, networks: range) -> "Ensemble":
        """Some of the networks."""
        part = slice(networks.start, networks.stop)
        params = {name: array[part] for name, array in self.params.items()}
        return replace(self, params=params, x=self.x[part], state=self.state[part])

    def until(self, steps: int) -> "Ensemble":
        """The same networks on the first steps of their drive."""
        return replace(self, x=backends.until(self.x, steps))

    def of_given(self, sums: Sums) -> Sums:
        """The gradients of the parameters that were given."""
        return Sums({name: sums.values[name] for name in self.names}, sums.exponent)

    def with_own_drive(self, backend: str) -> "Ensemble":
        """The same with a drive of its own: the user may change theirs before the way back. Kernels
        lay parameters out in memory of their own anyway."""
        return replace(self, x=backends.arrays(backend).copied(self.x))

    def answer(self, array: Array) -> Any:
        """An (M, ...) answer as the user wants it."""
        own: Any = array[0] if self.single else array
        return backends.to_gpu(own) if on_gpu(self.x) and not on_gpu(own) else own

    def answer_state(self, state: NDArray) -> Any:
        """A state (M, B, P, H), or its gradient, as the user wants it."""
        return unwrapped(tuple(map(self.answer, self.cell.unpack(state))))

    def packed_adjoint(self, name: str, given: Any) -> NDArray:
        """A user's gradient of a state, in the form of `answer_state`, as the kernels keep it,
        (M, B, P, H).

        Raises InputError for another form, dtype, or NaN.
        """
        lead = () if self.single else (len(self.x),)
        shape, names = self.cell.adjoint_shape(self.sizes), self.cell.parts
        packed = _packed(name, self.cell, shape, names, given, lead, self.x)
        return packed.reshape((len(self.x), self.x.shape[2], *shape))


def saved_width(cell: Cell, sizes: Sizes, backend: str) -> int:
    """Numbers that a forward step of one sequence saves, in all layers."""
    kernels = backends.kernels(backend, cell.name)
    return sum(kernels.saved_width(layer_sizes(sizes, layer)) for layer in range(cell.layers))


def unwrapped(parts: tuple[Any, ...]) -> Any:
    """A state as the public face has it: a tuple of parts, but of one part that part alone."""
    return parts if len(parts) > 1 else parts[0]


def received(name: str, value: Any) -> Array:
    """What was given as float64 or float32 numbers, where they live; their form is not checked.

    Raises InputError for what is no such array.
    """
    if not on_gpu(value):
        return as_array(name, value)
    array: Array = backends.gpu_view(value)
    check_dtype(name, array.dtype)
    return array


def on_host(name: str, value: Any) -> NDArray:
    """`received` as a NumPy array; one that lives on a GPU is copied."""
    return as_array(name, backends.from_gpu(value) if on_gpu(value) else value)


def check_array(
    name: str, value: Any, shape: tuple[int, ...], dtype: np.dtype, why: str = ""
) -> NDArray:
    """A finite array of just this shape and dtype, as kernels take it.

    Raises InputError otherwise: nothing is cast or broadcast in silence.
    """
    array = on_host(name, value)
    check_form(name, array, shape, dtype, why)
    return for_kernels(name, array)


def check_gpu_array(name: str, value: Any, shape: tuple[int, ...], dtype: np.dtype) -> Array:
    """`check_array` for one that may live on a GPU, and then stays there."""
    if not on_gpu(value):
        return check_array(name, value, shape, dtype)
    array = received(name, value)
    check_form(name, array, shape, dtype)
    found: Array = backends.gpu_array(name, array)
    return found


def arrays_of(params: Any) -> list[Any]:
    """The arrays of a dictionary; InputError unless it is one, with names."""
    if not isinstance(params, Mapping) or not all(isinstance(name, str) for name in params):
        raise InputError(
            f"params: {type(params).__name__} is not allowed; a dictionary of arrays by their "
            f"names is needed"
        )
    return list(params.values())


def find_cell(arch: str) -> Cell:
    """The cell of that name; InputError for an unknown one."""
    if arch not in CELLS:
        raise InputError(f"arch: {arch!r} is unknown; allowed: {', '.join(CELLS)}")
    return CELLS[arch]


def gather(
    arch: str,
    params: Mapping[str, ArrayLike],
    x: ArrayLike,
    initial: Any = None,
    activation: str = "tanh",
) -> Ensemble:
    """Check everything a caller gave and bring it to an ensemble.

    Raises InputError for an unknown arch or activation, an activation given to a cell that has
    none, missing or unknown parameters, and arrays of the wrong shape, dtype, or with NaN.
    """
    cell = find_cell(arch)
    arrays_of(params)
    drive = received("x", x)
    if drive.ndim not in (3, 4) or 0 in drive.shape:
        raise InputError(
            f"x: shape {drive.shape} is not allowed; (T, B, I) or (M, T, B, I), none empty"
        )
    lead = drive.shape[:-3]
    drive = check_gpu_array("x", drive, drive.shape, drive.dtype)
    names = naming.of_dictionary(cell, params)
    cell = in_layers(cell, naming.layers_in(names))
    sizes, checked = _check_params(cell, params, names, lead, drive)
    state = _check_state("initial", cell, sizes, initial, lead, drive)
    single = not lead
    if single:
        checked = {name: array[None] for name, array in checked.items()}
        drive, state = drive.reshape((1, *drive.shape)), state[None]
    chosen = _check_activation(cell, activation)
    return Ensemble(cell, sizes, checked, drive, state, chosen, single, names)


def _check_params(
    cell: Cell,
    params: Mapping[str, Any],
    names: Mapping[str, str],
    lead: tuple[int, ...],
    x: Array,
) -> tuple[Sizes, Parameters]:
    """The sizes, and all parameters; biases that were not given are zero."""
    arrays = {own: on_host(name, params[name]) for own, name in names.items()}
    axes = {own: len(shape) for own, shape in cell.shapes(Sizes(1, 1, 1)).items()}
    for own, array in arrays.items():
        if array.ndim != axes[own] + len(lead) or 0 in array.shape:
            raise InputError(
                f"{names[own]}: shape {array.shape} is not allowed; {axes[own]} axes"
                f"{' after the M of x' if lead else ''}, none empty, are needed"
            )
    sizes = cell.sizes(arrays)._replace(inputs=x.shape[-1])
    why = f" for {sizes.hidden} units and x of {sizes.inputs} features"
    return sizes, {
        own: check_array(names[own], arrays[own], (*lead, *shape), x.dtype, why)
        if own in names
        else np.zeros((*lead, *shape), x.dtype)
        for own, shape in cell.shapes(sizes).items()
    }


def _check_state(
    name: str, cell: Cell, sizes: Sizes, given: Any, lead: tuple[int, ...], x: Array
) -> NDArray:
    """A state as the kernels keep it, (..., B, P, H); zeros when none is given."""
    shape, names = cell.state_shape(sizes), cell.state_parts
    if given is None:
        return np.zeros((*lead, x.shape[-2], *shape), x.dtype)
    packed = _packed(name, cell, shape, names, given, lead, x)
    for i, (part, own_name) in enumerate(zip(cell.unpack(packed), names, strict=True)):
        if own_name in cell.from_zero and (part < 0).any():
            raise InputError(
                f"{name}[{i}]: {part.min()} is not allowed; the {own_name} is from 0 up"
            )
    return packed


def _packed(
    name: str,
    cell: Cell,
    shape: tuple[int, int],
    names: tuple[str, ...],
    given: Any,
    lead: tuple[int, ...],
    x: Array,
) -> NDArray:
    """A state or its gradient, of parts of these names, as the kernels keep it, (..., B, P, H)."""
    pattern = cell.unpack(np.zeros((*lead, x.shape[-2], *shape), x.dtype))
    parts = tuple(
        check_array(own_name, part, like.shape, x.dtype)
        for (own_name, part), like in zip(_parts(name, cell, names, given), pattern, strict=True)
    )
    return np.ascontiguousarray(cell.pack(parts))


def _parts(name: str, cell: Cell, names: tuple[str, ...], given: Any) -> list[tuple[str, Any]]:
    """The parts of a state that a user gave, see `unwrapped`, each with its name in messages."""
    if len(names) == 1:
        return [(name, given)]
    if not isinstance(given, tuple | list) or len(given) != len(names):
        raise InputError(
            f"{name}: {type(given).__name__} is not allowed; "
            f"{cell.name} takes a tuple of {len(names)} arrays ({', '.join(names)})"
        )
    return [(f"{name}[{i}]", part) for i, part in enumerate(given)]


def _check_activation(cell: Cell, activation: str) -> str | None:
    if activation not in ACTIVATIONS:
        allowed = ", ".join(ACTIVATIONS)
        raise InputError(f"activation: {activation!r} is unknown; allowed: {allowed}")
    if "activation" in cell.options:
        return activation
    if activation != "tanh":
        raise InputError(f"activation: {activation!r} means nothing for {cell.name}; leave it out")
    return None
