"""The options of Python's functions as type checkers, `help` and editors see them.

A dictionary's type has the words of one table's options: what its parsers accept, None for what is
left out. Names and types are held to the tables by a test; the words beside them come from there.
"""

import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from os import PathLike
from typing import Any, Protocol, Required, TypedDict, TypeVar, get_type_hints, runtime_checkable

import numpy as np

from seqlab.spec.arrays import ArrayFile
from seqlab.spec.option import Option, Table

Function = TypeVar("Function", bound=Callable[..., Any])


@runtime_checkable
class Array(Protocol):
    """What NumPy can read: its own arrays, tensors, tables of numbers."""

    def __array__(self) -> Any: ...


Whole = int | np.integer
Number = float | np.floating | np.integer
Lengths = str | Sequence[Whole]
Names = str | Sequence[str]
Params = str | PathLike[str] | Mapping[str, Any] | ArrayFile
Sequences = str | PathLike[str] | Array | Sequence[Any] | ArrayFile


class _Networks(TypedDict, total=False):
    """What draws recurrent networks."""

    arch: Required[str]
    steps: Whole | None
    hidden: Whole | None
    state: Whole | None
    networks: Whole | None
    seed: Whole | None
    activation: str | None
    init: str | None
    gain: Number | None
    input_scale: Number | None
    forget_bias: Number | str | None
    dtype: str | None
    r_min: Number | None
    r_max: Number | None
    max_phase: Number | None
    decay: str | None


class ReachOptions(_Networks, total=False):
    """Those of `seqlab.run` that `seqlab.reach` leaves open."""

    inputs: Whole | None
    drive: str | None
    params: Params | None
    module: str | None
    input: Sequences | None
    layers: Whole | None


class RunOptions(ReachOptions, total=False):
    """The options of `seqlab.run`."""

    clip: Names | None
    lengths: Lengths | None
    spectrum: Whole | None
    truncation: Number | None


class _Training(TypedDict, total=False):
    """How networks of any kind are trained."""

    optimizer: str | None
    lr: Number | Sequence[Number] | None
    momentum: Number | None
    eps: Number | None
    schedule: str | None
    updates: Whole | None
    sequences: Whole | None
    solved: Number | None
    trace: Whole | None
    clip: Names | None


class LearnOptions(_Networks, _Training, total=False):
    """The options of `seqlab.learn`."""

    task: str | None
    test_length: Whole | None
    lengths: Lengths | None


class _Stacks(TypedDict, total=False):
    """What draws stacks, all but their architecture."""

    depth: Whole | None
    width: Whole | None
    batch: Whole | None
    tokens: Whole | None
    heads: Whole | None
    networks: Whole | None
    seed: Whole | None
    activation: str | None
    init: str | None
    gain: Number | None
    bias_scale: Number | None
    norm: str | None
    place: str | None
    order: str | None
    alpha: Number | str | None
    depths: Lengths | None
    dtype: str | None


class DepthOptions(_Stacks, total=False):
    """The options of `seqlab.depth` besides `arch`."""

    inputs: Whole | None
    readout: str | None
    in_law: bool | None
    clip: Names | None
    spectrum: Whole | None
    params: Params | None
    module: str | None


class TrainOptions(_Stacks, _Training, total=False):
    """The options of `seqlab.train` besides `arch`."""

    frozen: bool | None


def options_of(table: Table, keywords: type) -> Callable[[Function], Function]:
    """Give a function that takes `**keywords` a signature and a docstring that name them all, in
    the table's order and words."""

    def annotate(function: Function) -> Function:
        hints, own = get_type_hints(keywords), inspect.signature(function)
        explicit = [one for one in own.parameters.values() if one.kind is not one.VAR_KEYWORD]
        rows = {table.words[name]: row for name, row in table.items()}
        options = [_parameter(word, hints[word]) for word in rows if word in hints]
        place = next(k for k, one in enumerate(explicit) if one.name == "backend")
        explicit[place:place] = options
        function.__signature__ = own.replace(parameters=explicit)  # type: ignore[attr-defined]
        known = {one.name for one in explicit}
        lines = [f"    {word}: {_words(table, row)}" for word, row in rows.items() if word in known]
        text = inspect.cleandoc(function.__doc__ or "")
        function.__doc__ = "\n".join([text, "", "Options, None for one left out::", "", *lines])
        return function

    return annotate


def _parameter(word: str, hint: Any) -> inspect.Parameter:
    default = inspect.Parameter.empty if word == "arch" else None
    return inspect.Parameter(word, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=hint)


def _words(table: Table, row: Option) -> str:
    """What `--help` says of an option, in Python's words."""
    text = re.sub(r"--(\w[\w-]*)", lambda word: word[1].replace("-", "_"), table.text(row.name))
    # A command compares architectures, a call measures one.
    text = re.sub(r"; repeat it[^.]*", "", text) if row.name == "arch" else text
    text = text.replace("; repeat it to", "; a list to")
    return f"{text} Or the arrays themselves." if row.is_file else text
