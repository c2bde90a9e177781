"""What comes in as an array: taken for its numbers alone, or refused, at every door alike."""

import warnings
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from drawn import ARCHS, answers, draw, same_bits
from naive import Array
from tensors import NUMBERS, GpuTensor, Tensor, Unplaced, half, same_numbers, scan_arguments

import seqlab
from seqlab import values
from seqlab.errors import InputError, Note
from seqlab.kernels.layout import on_gpu
from seqlab.values import as_array

# What is taken.


TAKEN: dict[str, Callable[[Array], Any]] = {
    "array": lambda a: a,
    "columns first": np.asfortranarray,
    "lists": lambda a: a.tolist(),
    "lists of arrays": lambda a: [list(part) for part in a],
    "lists of tensors": lambda a: [[Tensor(row, requires_grad=True) for row in part] for part in a],
    "tuples": lambda a: tuple(map(tuple, a.tolist())),
    "tensor": Tensor,
    "tensor with a history": lambda a: Tensor(a, requires_grad=True),
    "xarray": lambda a: xr.DataArray(a, dims=("time", "batch", "feature")),
    "memoryview": memoryview,
}


@pytest.mark.tiny
@pytest.mark.parametrize("kind", TAKEN)
def test_arrays_of_many_kinds_are_taken(kind: str) -> None:
    assert same_numbers(as_array("x", TAKEN[kind](NUMBERS)))


@pytest.mark.tiny
def test_whole_numbers_beside_others_in_lists_are_numbers() -> None:
    array = as_array("x", [[1, 2], [0.5, 1]])
    assert array.dtype == np.float64
    assert array.tolist() == [[1.0, 2.0], [0.5, 1.0]]


@pytest.mark.tiny
def test_tables_and_maps_of_files_are_taken(tmp_path: Any) -> None:
    frame = pd.DataFrame(NUMBERS[0])
    assert np.array_equal(as_array("x", frame), NUMBERS[0])
    np.save(tmp_path / "x.npy", NUMBERS)
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    assert same_numbers(as_array("x", mapped))
    assert np.shares_memory(as_array("x", mapped), mapped)


@pytest.mark.tiny
@pytest.mark.parametrize("value", [NUMBERS, Tensor(NUMBERS), Tensor(NUMBERS, requires_grad=True)])
def test_memory_is_shared(value: Any) -> None:
    assert np.shares_memory(as_array("x", value), NUMBERS)


@pytest.fixture
def untold() -> Iterator[None]:
    """As if nothing had been said yet, in this process."""
    values.say_widened.cache_clear()
    yield
    values.say_widened.cache_clear()


@pytest.mark.tiny
@pytest.mark.usefixtures("untold")
def test_bfloat16_is_taken_as_float32_and_said_once() -> None:
    numbers = half(NUMBERS / 7)
    tensors = [Tensor(numbers, grad, "bfloat16") for grad in (False, True)]
    with pytest.warns(Note, match="^bfloat16 is taken as float32, which holds each") as said:
        arrays = [as_array("x", value) for value in (*tensors, tensors)]
    assert len(said) == 1
    assert {array.dtype for array in arrays} == {np.dtype(np.float32)}
    assert all(np.array_equal(array, numbers) for array in arrays[:2])


# What is refused, everywhere.


def day(a: Array) -> Array:
    return np.full(a.shape, "2020-01-01", "datetime64[D]")


class Raises:
    """An array that fails when it is read."""

    def __array__(self, dtype: Any = None, copy: Any = None) -> Array:
        raise KeyError("first line\nsecond line")


class Unit(np.ndarray):
    """An array with a meaning that NumPy does not know of."""


class Everything:
    """Of no use: it has every attribute, none of which is what its name says."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return lambda: 1


def itself() -> list[Any]:
    nested: list[Any] = []
    nested.append(nested)
    return nested


NOT_FLOATS = "dtype {} is not allowed; float64 or float32 is needed"
MASKED = "a masked array is not allowed; a plain array is needed, such as .filled(0.0)"
REFUSED: dict[str, tuple[Callable[[Array], Any], str]] = {
    "masked": (lambda a: np.ma.masked_where(a == a.max(), a), MASKED),
    "masked, though nothing is": (np.ma.asarray, MASKED),
    "masked in a list": (lambda a: list(np.ma.masked_where(a == a.max(), a)), MASKED),
    "structured": (lambda a: np.zeros(a.shape, [("a", float), ("b", float)]), NOT_FLOATS),
    "much structured": (lambda a: np.zeros(a.shape, [(f"a{i}", float) for i in range(99)]), "..."),
    "records": (lambda a: np.zeros(a.shape, [("a", float)]).view(np.recarray), "numpy.rec"),
    "objects": (lambda a: a.astype(object), NOT_FLOATS.format("object")),
    "text": (lambda a: a.astype(str), NOT_FLOATS.format("<U32")),
    "bytes": (lambda a: a.astype(bytes), NOT_FLOATS.format("|S32")),
    "complex": (lambda a: a.astype(complex), NOT_FLOATS.format("complex128")),
    "bool": (lambda a: a.astype(bool), NOT_FLOATS.format("bool")),
    "integer": (lambda a: a.astype(int), NOT_FLOATS.format("int64")),
    "integers in lists": (lambda a: a.astype(int).tolist(), NOT_FLOATS.format("int64")),
    "bools in lists": (lambda a: (a > 0).tolist(), NOT_FLOATS.format("bool")),
    "a bool in a list": (lambda a: [*a.tolist(), True], NOT_FLOATS.format("bool")),
    "None in a list": (lambda a: [*a.tolist(), None], NOT_FLOATS.format("object")),
    "half precision": (lambda a: a.astype(np.float16), NOT_FLOATS.format("float16")),
    "half precision, tensor": (lambda a: Tensor(a.astype(np.float16)), "dtype float16"),
    "long double": (lambda a: a.astype(np.longdouble), "dtype "),
    "datetime": (day, NOT_FLOATS.format("datetime64[D]")),
    "timedelta": (lambda a: a.astype("m8[s]"), NOT_FLOATS.format("timedelta64[s]")),
    "other byte order": (lambda a: a.astype(a.dtype.newbyteorder()), "dtype "),
    "matrix": (lambda a: np.matrix(a.reshape(len(a), -1)), "numpy.matrix is not allowed; a plain"),
    "subclass": (lambda a: a.view(Unit), "Unit is not allowed; a plain array is needed"),
    "table of two dtypes": (
        lambda a: pd.DataFrame({"a": a.ravel(), "b": a.ravel().astype(np.float32)}),
        "dtypes float32, float64 together are not allowed; one is needed",
    ),
    "xarray with gaps": (lambda a: xr.DataArray(a).where(a > 3), "NaN or infinity"),
    "arrays of two dtypes": (lambda a: [a, a.astype(np.float32)], "dtypes float32, float64"),
    "float32 beside Python's own": (lambda a: [[np.float32(1)], [1.0]], "dtypes float32, float64"),
    "ragged": (lambda a: [*a.tolist(), [[1.0]]], "ragged lists are not allowed; rows of one len"),
    "ragged arrays": (lambda a: [a, a[1:]], "ragged lists are not allowed"),
    "deep": (lambda a: itself(), "lists 8 deep are not allowed; fewer axes are needed"),
    "tensor without data": (Unplaced, "Unplaced cannot be read as an array ('Cannot copy out"),
    "raises": (lambda a: Raises(), "Raises cannot be read as an array"),
    "has everything": (lambda a: Everything(), "Everything cannot be read as an array"),
    "generator": (lambda a: (x for x in a), NOT_FLOATS.format("object")),
    "set": (lambda a: {1.0}, NOT_FLOATS.format("object")),
    "dictionary": (lambda a: {"x": a}, NOT_FLOATS.format("object")),
    "word": (lambda a: "x", NOT_FLOATS.format("<U1")),
    "object": (lambda a: object(), NOT_FLOATS.format("object")),
}  # fmt: skip


def refusal(name: str, call: Callable[[], Any]) -> str:
    """What is said, in one line that begins with the argument's name."""
    with pytest.raises(InputError) as refused:
        call()
    message = str(refused.value)
    assert message.startswith(f"{name}: "), message
    assert "\n" not in message
    assert len(message) < 300
    return message


def doors(kind: Callable[[Array], Any]) -> Iterator[tuple[str, Callable[[], Any]]]:
    """Every argument that takes an array, with a call where that one alone is of a kind."""
    for arch in ("lstm", "ssm"):
        run = draw(arch, batch=3)
        for name, value in run.params.items():
            params = run.params | {name: kind(value)}
            yield name, partial(seqlab.forward, arch, params, run.x)
        yield "x", partial(seqlab.forward, arch, run.params, kind(run.x))
        yield "x", partial(seqlab.attenuation, arch, run.params, kind(run.x), [3])
    h, c = draw("lstm", batch=3).initial
    run = draw("lstm", batch=3)
    yield "initial[0]", partial(seqlab.forward, "lstm", run.params, run.x, (kind(h), c))
    yield "initial[1]", partial(seqlab.forward, "lstm", run.params, run.x, (h, kind(c)))
    trajectory = seqlab.forward("lstm", run.params, run.x)
    yield "grad_output", partial(seqlab.backward, trajectory, kind(run.grad))
    for readout in (np.ones(3), np.ones((3, 3))):
        call = partial(seqlab.attenuation, "lstm", run.params, run.x, [3])
        yield "readout", partial(call, readout=kind(readout))
    run = draw("gru", batch=3)
    yield "initial", partial(seqlab.forward, "gru", run.params, run.x, kind(run.initial))
    grad, scanned = scan_arguments()
    for name, value in scanned.items():
        given = scanned | {name: kind(value)}
        yield name, partial(seqlab.selective_scan, **given)
        yield name, partial(seqlab.selective_scan_backward, grad, **given)
    yield "grad_y", partial(seqlab.selective_scan_backward, kind(grad), **scanned)


@pytest.mark.tiny
@pytest.mark.filterwarnings("ignore:the matrix subclass:PendingDeprecationWarning")
@pytest.mark.parametrize("kind", REFUSED)
def test_other_kinds_are_refused_at_every_door(kind: str) -> None:
    spoil, said = REFUSED[kind]
    found = list(doors(spoil))
    assert len(found) == 37
    for name, call in found:
        message = refusal(name, call)
        assert said.partition("{}")[0] in message, message


@pytest.mark.tiny
@pytest.mark.parametrize("dtype", ["Float64", "Int64", "str"])
def test_tables_with_gaps_are_refused(dtype: str) -> None:
    run, gaps = draw("gru"), pd.Series([1, None, 2], dtype=dtype)
    for readout in (gaps, gaps.array):
        refusal("readout", partial(seqlab.attenuation, "gru", run.params, run.x, [3],
                                   readout=readout))  # fmt: skip


@pytest.mark.tiny
@pytest.mark.parametrize("params", [[], None, 3, np.ones(3), {0: np.ones(3)}, {None: 1, "D": 2}])
def test_parameters_that_are_no_dictionary_are_refused(params: Any) -> None:
    x = np.ones((3, 1, 1))
    for call in (seqlab.forward, partial(seqlab.attenuation, lengths=[3])):
        message = refusal("params", partial(call, "gru", params, x))
        assert message.endswith("a dictionary of arrays by their names is needed")


# Tensors.


@pytest.mark.tiny
@pytest.mark.parametrize("arch", ARCHS)
def test_tensors_with_a_history_give_what_their_values_give(arch: str) -> None:
    run = draw(arch)

    def tensor(array: Array) -> Any:
        return Tensor(array, requires_grad=True)

    tensors = run.each(tensor)
    assert same_bits(answers(tensors), answers(run))
    readout = np.linspace(-1, 1, 3)
    curves = [
        seqlab.attenuation(arch, given.params, given.x, [2, 6], readout=vector).log_norm
        for given, vector in ((run, readout), (tensors, tensor(readout)))
    ]
    assert np.array_equal(*curves, equal_nan=True)


@pytest.mark.tiny
def test_where_a_tensor_lives_is_known_whatever_its_history() -> None:
    """PyTorch does not say it of those that require a gradient."""
    for requires_grad in (False, True):
        assert on_gpu(GpuTensor(NUMBERS, requires_grad))
        assert not on_gpu(Tensor(NUMBERS, requires_grad))
    assert not on_gpu(Unplaced(NUMBERS))
    run = draw("gru")
    message = refusal("backend", partial(seqlab.forward, "gru", run.params, GpuTensor(run.x, True),
                                         backend="cpu"))  # fmt: skip
    assert message.startswith("backend: cpu takes no arrays of a GPU")


def test_tensors_of_pytorch(torch: Any) -> None:
    array = as_array("x", torch.tensor(NUMBERS, requires_grad=True))
    assert same_numbers(array)
    numbers = half(NUMBERS / 7)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Note)
        narrow = as_array("x", torch.tensor(numbers, dtype=torch.bfloat16, requires_grad=True))
    assert narrow.dtype == np.float32
    assert np.array_equal(narrow, numbers)
    for value in (torch.ones(3, dtype=torch.int64), torch.ones(3).half(), torch.ones(3) > 0):
        assert "is not allowed; float64 or float32 is needed" in refusal(
            "x", partial(as_array, "x", value)
        )
    for value in (torch.ones(3).to_sparse(), torch.ones(3, device="meta")):
        assert "cannot be read" in refusal("x", partial(as_array, "x", value))
