"""The kinds of runs, known by name: what a kind's options are, who measures it, what that costs.

A kind is a row here and a table of options. Its measurement and its cost are named as text and
imported when they are first asked for, so that a spec loads nothing that runs. All kinds have one
format of result files, one store and one sweep.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any, ClassVar, Protocol, Self, cast

from seqlab.errors import InputError
from seqlab.numbers.variables import Measurement
from seqlab.spec.learn import LearnSpec
from seqlab.spec.learn_table import LEARN_TABLE
from seqlab.spec.option import Option, Table
from seqlab.spec.probed import (
    PROBED_LAYERS_TABLE,
    PROBED_TABLE,
    ProbedLayersSpec,
    ProbedSpec,
)
from seqlab.spec.run import RunSpec
from seqlab.spec.stack import StackSpec
from seqlab.spec.stack_table import STACK_TABLE
from seqlab.spec.table import TABLE
from seqlab.spec.train import TrainSpec
from seqlab.spec.train_table import TRAIN_TABLE
from seqlab.wording import one_of, refuse, short_repr

Progress = Callable[[float, str], None]
Stages = Callable[[str], Any]  # from a stage's name to where it keeps what it has done


class Spec(Protocol):
    """What every kind's spec offers to those who keep, show and compare results.

    Specs are frozen dataclasses whose other fields are the rows of their kind's table.
    """

    __dataclass_fields__: ClassVar[dict[str, Any]]

    @property
    def arch(self) -> str: ...

    @property
    def steps(self) -> int: ...

    @property
    def networks(self) -> int: ...

    @property
    def clip(self) -> tuple[str, ...]: ...

    @property
    def lengths(self) -> tuple[int, ...]: ...

    @property
    def dtype(self) -> str: ...

    @property
    def hash(self) -> str:
        """16 hex digits of what is measured."""

    @classmethod
    def create(cls, check: "Callable[[Any], None] | None" = None, /, **given: Any) -> Self:
        """Validate options and fill in the rest; see `RunSpec.create`. Raises InputError."""

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> Self:
        """The spec that `to_dict` wrote, validated. Raises InputError."""

    def to_dict(self) -> dict[str, Any]:
        """Every field, as JSON has it."""


class Cost(Protocol):
    """What a run takes, told from its spec alone: the functions of a module."""

    def require_backend(self, spec: Any, backend: str, elsewhere: bool) -> None:
        """Refuse a choice of backend that cannot measure it here, or `elsewhere` on no machine.

        Raises InputError.
        """

    def memory_bytes(self, spec: Any) -> int:
        """Bytes that measuring it needs at its peak."""

    def seconds(self, spec: Any, threads: int) -> float:
        """About how long that takes on a CPU."""

    def curve_shape(self, spec: Any) -> tuple[int, int, int, int]:
        """The largest array of its file: networks, rules, lengths, lags, float64."""

    def file_bytes(self, spec: Any) -> int:
        """About the size of its file, and hardly ever less."""


@dataclass(frozen=True)
class Kind:
    """One kind of run. `measurement` is "module:function", called as `measure` below is, None where
    a spec does not say all that was measured; `cost` names a module that has what Cost has, None
    with it. `link` is what lags, lengths and rates count; `remarks` is "module:function", from a
    spec to lines of text that its table ends with; `table_of`, from results to that table, which is
    `brief` without its legend and the files that it is from.

    What takes long `resumes`: its measurement takes a Stages too. A kind with a `name` shares its
    architectures with another one: dictionaries and study files tell it by `kind`, everybody else
    by the class of its specs."""

    spec: type[Spec]
    table: Table
    measurement: str | None
    cost: str | None
    link: str = "step"
    remarks: str | None = None
    table_of: str = "seqlab.report.run_table:table"
    name: str | None = None
    resumes: bool = False


KINDS = [
    Kind(RunSpec, TABLE, "seqlab.measure:measure", "seqlab.measure.cost"),
    Kind(
        StackSpec,
        STACK_TABLE,
        "seqlab.measure.stacks:measure",
        "seqlab.measure.stack_cost",
        link="layer",
        remarks="seqlab.measure.stack_theory:remarks",
    ),
    Kind(ProbedSpec, PROBED_TABLE, None, None, remarks="seqlab.spec.probed:remarks"),
    Kind(ProbedLayersSpec, PROBED_LAYERS_TABLE, None, None, link="layer"),
    Kind(
        LearnSpec,
        LEARN_TABLE,
        "seqlab.learning.of_cells:measure",
        "seqlab.learning.cost",
        table_of="seqlab.report.learn_table:table",
        name=LearnSpec.kind,
        resumes=True,
    ),
    Kind(
        TrainSpec,
        TRAIN_TABLE,
        "seqlab.learning.of_stacks:measure",
        "seqlab.learning.stack_cost",
        link="layer",
        table_of="seqlab.report.learn_table:table",
        name=TrainSpec.kind,
        resumes=True,
    ),
]


def by_arch() -> list[Kind]:
    """The kinds that an architecture tells."""
    return [kind for kind in KINDS if kind.name is None]


def of(arch: object, name: object = None) -> Kind:
    """The kind of an architecture, or of a name where there is one.

    An architecture that no kind has is the first one's to refuse. Raises InputError for an unknown
    name.
    """
    if name is not None:
        named = {kind.name: kind for kind in KINDS if kind.name is not None}
        if not isinstance(name, str) or name not in named:
            raise refuse("kind", name, one_of(named))
        return named[name]
    known = (kind for kind in by_arch() if isinstance(arch, str) and arch in kind.table.archs)
    return next(known, KINDS[0])


def of_spec(spec: Spec) -> Kind:
    """The kind of a spec."""
    return next(kind for kind in KINDS if type(spec) is kind.spec)


def links(archs: Iterable[str]) -> tuple[str, ...]:
    """What is a link of these architectures, each word once."""
    return tuple(dict.fromkeys(of(arch).link for arch in archs))


def create(
    check: Callable[[Any], None] | None = None, /, kind: str | None = None, **given: Any
) -> Spec:
    """The spec of some options, validated by its kind. Raises InputError."""
    if kind is not None:
        return of(given.get("arch"), kind).spec.create(check, **given)
    return _create_by_arch(check, given)


def _create_by_arch(check: Callable[[Any], None] | None, given: dict[str, Any]) -> Spec:
    kind, arch = of(given.get("arch")), given.get("arch")
    if arch in archs():
        require_measurable(kind, arch)
        elsewhere = options(by_arch()).keys() - kind.table.keys()
        for name, value in given.items():
            if name in elsewhere and value is not None:
                why = kind.table.idle(name, given)
                raise InputError(f"{name}: {short_repr(value)} means nothing {why}")
    return kind.spec.create(check, **given)


def from_dict(fields: Mapping[str, Any]) -> Spec:
    """The spec that its `to_dict` wrote. Raises InputError."""
    given = dict(fields)  # of JSON, which may be anything
    return of(given.get("arch"), given.get("kind")).spec.from_dict(given)


def measure(
    spec: Spec, backend: str, progress: Progress | None, stages: Stages | None = None
) -> Measurement:
    """Measure all that a spec asks for; `progress(fraction, what)` is called now and then, and a
    kind that resumes goes on from what its `stages` have kept."""
    kind = of_spec(spec)
    measurement, _ = require_measurable(kind, spec.arch)
    given = (spec, backend, progress, stages) if kind.resumes else (spec, backend, progress)
    return _found(measurement)(*given)


def remarks(spec: Spec) -> list[str]:
    """What is to be said of a spec below its table."""
    if (named := of_spec(spec).remarks) is None:
        return []
    return _found(named)(spec)


def table(results: Sequence[Any], brief: bool = False) -> str:
    """The text that a terminal shows of measured specs of one kind; see `Kind.table_of`."""
    return _found(of_spec(results[0].spec).table_of)(results, brief=brief)


def _found(named: str) -> Callable[..., Any]:
    """The function at "module:function"."""
    module, _, function = named.partition(":")
    found: Callable[..., Any] = getattr(import_module(module), function)
    return found


def cost(spec: Spec) -> Cost:
    """Who knows what a run takes. Raises InputError where it is not for seqlab to run."""
    return cast(Cost, import_module(require_measurable(of_spec(spec), spec.arch)[1]))


def require_measurable(kind: Kind, arch: object) -> tuple[str, str]:
    """Its measurement and its cost. Raises InputError where it has none."""
    if kind.measurement is None or kind.cost is None:
        raise refuse(
            "arch",
            arch,
            "it was measured in a program of its own; there, seqlab.probe does it again",
        )
    return kind.measurement, kind.cost


def options(of_kinds: Iterable[Kind] | None = None) -> dict[str, Option]:
    """The options of all kinds, or of some; of one that several have, the first kind's row."""
    rows: dict[str, Option] = {}
    for kind in KINDS if of_kinds is None else of_kinds:
        for name, row in kind.table.items():
            rows.setdefault(name, row)
    return rows


def archs() -> list[str]:
    """The architectures of all kinds, in their order."""
    return list(dict.fromkeys(name for kind in KINDS for name in kind.table.archs))
