"""Measure one spec and keep its result."""

import os
import time
import warnings
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Unpack, cast

from seqlab.spec import kinds
from seqlab.spec.keywords import (
    DepthOptions,
    LearnOptions,
    RunOptions,
    TrainOptions,
    options_of,
)
from seqlab.spec.kinds import Progress, Spec
from seqlab.spec.learn import LearnSpec
from seqlab.spec.learn_table import LEARN_TABLE
from seqlab.spec.stack import StackSpec
from seqlab.spec.stack_table import DEFAULT_ARCH, STACK_TABLE
from seqlab.spec.table import TABLE
from seqlab.spec.tabled import TabledSpec
from seqlab.spec.train import TrainSpec
from seqlab.spec.train_table import TRAIN_TABLE
from seqlab.study import limits
from seqlab.study.progress_line import Asked, reporting
from seqlab.study.result import Result
from seqlab.study.unfinished import Unfinished

Folder = str | os.PathLike[str]


@options_of(TABLE, RunOptions)
def run(
    *,
    backend: str = "auto",
    store: Folder | None = None,
    progress: Asked = None,
    **fields: Unpack[RunOptions],
) -> Result:
    """Measure one cell: `arch`, `steps` and any other option of `seqlab run`, by its name.

    `store` is a folder for the result's file, which replaces an older one of the same spec;
    without it nothing is written. `progress(fraction, what)` is called four times a second at most;
    True shows both in one line on stderr.
    Raises InputError before any work, and WriteError where the result cannot be kept.
    """
    spec = kinds.create(limits.require_memory, **fields)
    check(spec, store, backend)
    with reporting(progress) as tell:
        return measure_spec(spec, backend, store, tell)


@options_of(STACK_TABLE, DepthOptions)
def depth(
    *,
    arch: str = DEFAULT_ARCH,
    backend: str = "auto",
    store: Folder | None = None,
    progress: Asked = None,
    **options: Unpack[DepthOptions],
) -> Result:
    """Measure one deep stack: `depth` and any other option of `seqlab depth`, by its name there.

    The rest is as `run` has it.
    """
    return _by_words(StackSpec, {"arch": arch, **options}, backend, store, progress)


@options_of(LEARN_TABLE, LearnOptions)
def learn(
    *,
    backend: str = "auto",
    store: Folder | None = None,
    progress: Asked = None,
    **fields: Unpack[LearnOptions],
) -> Result:
    """Train one cell on a task at several lengths: `arch`, `lengths` and any other option of
    `seqlab learn`, by its name.

    The rest is as `run` has it.
    """
    spec = LearnSpec.create(limits.require_memory, **fields)
    check(spec, store, backend)
    with reporting(progress) as tell:
        return measure_spec(spec, backend, store, tell)


@options_of(TRAIN_TABLE, TrainOptions)
def train(
    *,
    arch: str = DEFAULT_ARCH,
    backend: str = "auto",
    store: Folder | None = None,
    progress: Asked = None,
    **options: Unpack[TrainOptions],
) -> Result:
    """Train deep stacks of several depths to sort inputs into classes: `depths` and any other
    option of `seqlab train`, by its name there.

    The rest is as `run` has it.
    """
    return _by_words(TrainSpec, {"arch": arch, **options}, backend, store, progress)


def _by_words(
    kind: type[TabledSpec],
    options: Mapping[str, Any],
    backend: str,
    store: Folder | None,
    progress: Asked,
) -> Result:
    """Measure what options say by the words of the kind's own command."""
    fields = kind.table.fields(options)
    with kind.table.in_own_words():
        spec = cast(Spec, kind.create(limits.require_memory, **fields))
        check(spec, store, backend)
    with reporting(progress) as tell:
        return measure_spec(spec, backend, store, tell)


def check(spec: Spec, store: Folder | None, backend: str) -> None:
    """Refuse a backend that cannot measure the spec here, what would not fit in memory, and a store
    that cannot be written to.

    Raises InputError; leaves nothing behind.
    """
    kinds.cost(spec).require_backend(spec, backend, elsewhere=False)
    limits.require_memory(spec)
    if store is not None:
        limits.require_store(spec, Path(store))


def measure_spec(
    spec: Spec,
    backend: str,
    store: Folder | None,
    progress: Progress | None,
    report: Callable[[str], None] = warnings.warn,
) -> Result:
    """Measure a spec that was checked, and keep its result in a store, if there is one.

    What takes long keeps in the store what it has done meanwhile, and goes on from there; where it
    cannot, and where it is interrupted, `report` is told in one line. Raises as `run` does.
    """
    if store is None:
        return measure_only(spec, backend, progress)
    unfinished = Unfinished(Path(store), spec, backend, report)
    try:
        result = measure_only(spec, backend, progress, unfinished.stage).write(store)
    except KeyboardInterrupt:
        if unfinished.files():
            report(f"what was done is kept in {store}; the same again goes on from there")
        raise
    unfinished.remove()
    return result


def measure_only(
    spec: Spec, backend: str, progress: Progress | None, stages: kinds.Stages | None = None
) -> Result:
    """The result of a spec that was checked, in no store yet."""
    created, start = datetime.now(UTC), time.perf_counter()
    measured = kinds.measure(spec, backend, progress, stages)
    duration = time.perf_counter() - start
    return Result.from_measurement(spec, measured, created, duration)
