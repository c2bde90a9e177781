"""From what the routes found to an `Attenuation`."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import import_module
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seqlab.measure.attenuation import Norms
from seqlab.probes.states import Tensor
from seqlab.probes.steps import Walk
from seqlab.rules import Rule
from seqlab.study.attenuation import Attenuation
from seqlab.values import named
from seqlab.wording import refuse


class Begun:
    """A probe of a network of this name that begins now."""

    def __init__(self, name: str) -> None:
        self.name, self._start = name, time.perf_counter()
        self._created = datetime.now(UTC)

    def fields(self) -> dict[str, Any]:
        """Fields of an `Attenuation` that is ready now."""
        duration = time.perf_counter() - self._start
        versions = {"torch": import_module("torch").__version__}
        return {
            "name": self.name,
            "created": self._created,
            "duration": duration,
            "versions": versions,
        }


@dataclass(frozen=True)
class Found:
    """Walks of all networks by one route, with tensors as `like`; see `Attenuation`."""

    walks: Sequence[Walk]
    engine: str
    rule: Rule
    like: Tensor
    every: int = 1
    sequences: int = 1
    link: str = "step"
    names: tuple[str, ...] = ()


def of_walks(found: Found, begun: Begun) -> Attenuation:
    """Raises InputError for walks with several sets of parts."""
    walks, first = found.walks, found.walks[0]
    if any(list(walk.parts) != list(first.parts) for walk in walks):
        raise refuse("net", "several forms of state", "networks whose states are of one form")
    log_norm = np.stack([walk.log_norm for walk in walks])
    links = first.lengths * found.sequences
    return Attenuation(
        lengths=first.lengths,
        lags=first.lags,
        log_norm=log_norm,
        log_norm_input=log_norm if found.engine == "input" else None,
        parts={part: np.stack([walk.parts[part] for walk in walks]) for part in first.parts},
        underflow=_zeros(log_norm, found),
        fired=np.stack([walk.fired for walk in walks]) / links,
        clip=str(found.rule),
        backend=found.like.device.type,
        engine=found.engine,
        dtype=named(found.like.dtype),
        every=found.every,
        link=found.link,
        names=found.names,
        **begun.fields(),
    )


def of_norms(norms: Norms, lengths: Sequence[int], every: int, begun: Begun) -> Attenuation:
    """What the lab's own kernels found, at multiples of `every`."""

    def thinned(curves: NDArray) -> NDArray:
        return curves[..., ::every]

    return Attenuation(
        lengths=np.asarray(lengths, np.int64),
        lags=np.arange(0, max(lengths) + 1, every),
        log_norm=thinned(norms.log_norm),
        log_norm_input=thinned(norms.log_norm_input),
        parts={part: thinned(curves) for part, curves in norms.parts.items()},
        underflow=norms.underflow,
        fired=norms.fired,
        clip=norms.clip,
        backend=norms.backend,
        engine="kernels",
        dtype=norms.dtype,
        every=every,
        **begun.fields(),
    )


def _zeros(log_norm: NDArray, found: Found) -> NDArray[np.bool_]:
    """(M, lengths): whether a curve has a zero that PyTorch may have rounded to be one. In a chain
    what a rule has cut is exact, and so is a loss that is no function of the output."""
    zeros = np.isneginf(log_norm)
    exact = zeros[:, :, 0] | np.bool_(found.rule.kind == "truncate")
    return np.any(zeros, axis=2) & ~(exact & np.bool_(found.engine != "input"))
