"""The spec of a deep stack."""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from seqlab.errors import InputError
from seqlab.layers.draws import TRANSFORMER_INITS
from seqlab.layers.stack import Stack
from seqlab.spec import stack_arrays
from seqlab.spec.arrays import ArrayFile
from seqlab.spec.formats import InMemory
from seqlab.spec.option import Table
from seqlab.spec.stack_table import SQRT, STACK_TABLE
from seqlab.spec.table import DEFAULT_INIT
from seqlab.spec.tabled import Held, TabledSpec
from seqlab.wording import describe_value, one_of, refuse


def default_biases(table: Table, known: Mapping[str, Any]) -> dict[str, float]:
    """No biases, but where weights are PyTorch's or one's own."""
    drawn_otherwise = known.get("init", DEFAULT_INIT) != DEFAULT_INIT
    means_something = drawn_otherwise and not table.idle("bias_scale", known)
    return {"bias_scale": 0.0} if means_something else {}


@dataclass(frozen=True)
class StackSpec(TabledSpec):
    """One run of a deep stack: every field is an option of `seqlab depth`; see TabledSpec.

    `steps` are layers, `hidden` is their width (of a densenet, the features that a block adds).
    `inputs` is None where inputs have the width already; else a first layer, which is not counted,
    brings them there. `bias_scale` is None for PyTorch's biases and one's own. `alpha` is a number
    or "sqrt"; `branch_scale` resolves it. `in_law` is True or None.
    """

    table = STACK_TABLE

    arch: str
    steps: int
    hidden: int
    batch: int | None
    inputs: int | None
    tokens: int | None
    heads: int | None
    networks: int
    seed: int
    activation: str
    init: str | None
    gain: float | None
    bias_scale: float | None
    norm: str | None
    place: str | None
    order: str | None
    alpha: float | str | None
    readout: str | None
    in_law: bool | None
    clip: tuple[str, ...]
    lengths: tuple[int, ...]
    spectrum: int | None
    dtype: str
    params: ArrayFile | None
    module: str | None = field(compare=False)  # where in params: what counts is what was there

    @property
    def rows(self) -> int:
        """Rows of the state: inputs seen together, or tokens."""
        return self.tokens or self.batch or 1

    @cached_property
    def stack(self) -> Stack:
        """The architecture."""
        return Stack(
            self.arch,
            self.steps,
            self.hidden,
            self.rows,
            self.activation,
            self.norm or "none",
            self.place or "pre",
            self.order != "inside",
            1.0 if self.branch_scale is None else self.branch_scale,
            self.heads or 1,
        )

    @property
    def branch_scale(self) -> float | None:
        """alpha as a number; None for a stack without branches."""
        return self.steps**-0.5 if isinstance(self.alpha, str) else self.alpha

    @classmethod
    def _files(cls, known: Mapping[str, Any], opened: ExitStack) -> Iterator[Held]:
        if isinstance(path := known.get("params"), str | InMemory):
            stored = opened.enter_context(stack_arrays.opened_stack(path, known.get("module")))
            sizes = stack_arrays.sizes_of_stack(stored)
            if "inputs" in known and "inputs" not in sizes:
                raise refuse(
                    "inputs", known["inputs"], f"params {path} has no first layer for inputs"
                )
            yield "params", stored, sizes

    @classmethod
    def _defaults(cls, known: Mapping[str, Any]) -> dict[str, Any]:
        defaults = super()._defaults(known)
        if known.get("in_law"):
            defaults |= {"batch": 1, "clip": ("none",)}
        if known.get("in_law") or known.get("alpha") == SQRT:
            defaults["lengths"] = (known["steps"],)
        return defaults | default_biases(cls.table, known)

    def _check_together(self) -> None:
        super()._check_together()
        if self.in_law:
            self._check_in_law()
        if self.norm == "batch" and self.batch == 1:
            raise refuse(
                "batch",
                1,
                "batch norm needs 2 inputs at least; with 2 every gradient below it is zero",
            )
        if self.norm is not None and self.norm.startswith("group"):
            self._check_divides("norm", int(self.norm.partition(":")[2]), "groups")
        if self.heads is not None:
            self._check_divides("heads", self.heads, "heads")
            if self.init not in TRANSFORMER_INITS:
                raise refuse("init", self.init, f"{self.arch}: {one_of(TRANSFORMER_INITS)}")
        if self.alpha == SQRT and len(self.lengths) > 1:
            raise InputError(
                f"lengths: {len(self.lengths)} of them are not allowed beside alpha {SQRT}; "
                f"every depth would have branches of its own: {self.steps} alone is needed"
            )
        largest = self.hidden * self.rows
        if self.spectrum is not None and self.spectrum > largest:
            raise refuse("spectrum", self.spectrum, f"1 to {largest}, the size of the state")

    def _check_divides(self, name: str, parts: int, what: str) -> None:
        if self.hidden % parts:
            raise refuse(name, getattr(self, name), f"{what} must divide the width, {self.hidden}")

    def _check_in_law(self) -> None:
        """One input and one adjoint, whose joint law is known: nothing that needs more."""
        for name, allowed, said in (
            ("norm", ("none", "layer"), "norm none or layer"),
            ("batch", (1,), "a batch of 1"),
            ("clip", (("none",),), "clip none alone"),
            ("spectrum", (None,), "no spectrum"),
            ("params", (None,), "no params"),
        ):
            value = getattr(self, name)
            if value not in allowed:
                shown = describe_value(value) if name in ("clip", "params") else value
                raise refuse(name, shown, f"in_law takes {said}")
