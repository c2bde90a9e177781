"""The parts that blocks of a stack are made of.

A state is (units, rows): the rows are the inputs of a batch, or the tokens of a sequence. A part
takes such an array to another, and its adjoint dL/d(output) to dL/d(input).
"""

from collections.abc import Iterator
from typing import NamedTuple


class Linear(NamedTuple):
    """W h + b, W (outputs, inputs): the adjoint goes by W^T, dL/dW is delta h^T, dL/db the sum of
    delta over rows. Its numbers are W row by row, then b.

    With `inputs` 0 it takes all the features that there are: h has `outputs` of each block before.
    """

    outputs: int
    inputs: int


class Norm(NamedTuple):
    """(z - mean)/sqrt(variance + eps): over the rows of each unit (`batch`; Ioffe & Szegedy 2015,
    with the batch's own moments), or over the units of each of `groups` groups of each row (layer
    norm with one: Ba, Kiros & Hinton 2016; Wu & He 2018). Scale and shift are as they begin: one
    and zero."""

    batch: bool
    groups: int
    eps: float


class Phi(NamedTuple):
    """An activation, by the name that `seqlab.layers.activation.choose` takes."""

    name: str


class Attention(NamedTuple):
    """softmax(Q K^T/sqrt(units/heads)) V of each head over rows, of (3 units, rows): queries, keys,
    values (Vaswani et al. 2017, eq. 1), of rows of the same sequence alone where each has so many
    `tokens`, 0 for all. The maps before and after it are parts of their own."""

    units: int
    heads: int
    tokens: int = 0


class Residual(NamedTuple):
    """h + alpha F(h), F the parts of `branch` one after the other (He et al. 2016)."""

    branch: "Chain"
    alpha: float


Part = Linear | Norm | Phi | Attention | Residual
Chain = tuple[Part, ...]


def flat(chain: Chain) -> Iterator[Part]:
    """All parts in the order of the way forward, those of branches among them."""
    for part in chain:
        if isinstance(part, Residual):
            yield from flat(part.branch)
        yield part
