"""Which fields a figure puts where: those asked for, and for the rest those that tell most."""

import shlex
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seqlab.errors import InputError
from seqlab.figures.courses import learnable
from seqlab.figures.gather import Series, pool, read
from seqlab.figures.names import (
    COORDINATES,
    DRAWN,
    FIELDS,
    OF_TRAINING,
    PART,
    RELATIVE,
    Measure,
    label,
    named,
    text,
)
from seqlab.figures.notes import note_pooled
from seqlab.figures.request import Request, Results, each
from seqlab.figures.runs import Run
from seqlab.figures.variance import values_of, varying
from seqlab.numbers.learning import LearnableLength
from seqlab.report.measured import Measured
from seqlab.spec import kinds
from seqlab.spec.run import is_layered
from seqlab.wording import in_links, one_of, refuse

COLORED = ("curves", "distribution", "histogram")  # where colours tell y apart
MOST_PANELS = 12
MOST_COLORS = 12
ALIKE = " = "  # between the names of rules that do the same
ROUNDING = 1e-6  # decades or nats per step, that are no change at all
LEAST = 0.01  # of the variance: what explains less is not worth panels


@dataclass(frozen=True)
class Choice:
    """The fields of a figure's parts; `stroke` is the field that kinds of line tell apart."""

    kind: str
    x: str
    y: str | None
    facet: str | None
    stroke: str | None
    measure: Measure

    @property
    def fields(self) -> list[str]:
        named = (self.x, self.y, self.facet, self.stroke)
        return [name for name in dict.fromkeys(named) if name is not None]

    @property
    def coordinates(self) -> set[str]:
        return set(self.fields) & set(self.measure.coordinates)


def choose(runs: Sequence[Run], asked: Request) -> Choice:
    """A place for the fields that vary. Raises InputError where what was asked cannot be drawn."""
    axes = asked.measure.axes
    for option, name in asked.given.items():
        if name in {*COORDINATES, *OF_TRAINING} - {*axes}:
            has = f"which has {one_of(axes)}" if axes else "one number for each run"
            raise InputError(f"{option}: {name} is no axis for {asked.value}, {has}")
    choice = _KINDS[asked.kind](runs, asked)
    for option, spread, most in (
        ("facet", choice.facet, MOST_PANELS),
        ("y", choice.y if asked.kind in COLORED else None, MOST_COLORS),
    ):
        count = len(values_of(runs, spread)) if spread else 0
        if count > most:
            raise InputError(f"{option}: {spread} has {count} values; {most} is the most")
    return choice


def _heatmap(runs: Sequence[Run], asked: Request) -> Choice:
    free, measure = _free(runs, asked), asked.measure
    if measure.quantity.learned:  # its own axes come first, then lengths
        own = [name for name in measure.coordinates if name not in asked.given.values()]
        free = iter([*own, *sorted(free, key=lambda name: name != "length")])
    x = asked.x or _coordinate(runs, asked) or next(free, "seed")
    y = asked.y or next(free, "")
    if not y and "length" in measure.coordinates:  # one run: all there is to tell is in its lags
        x = asked.x or "lag"
        y = "lag" if x == "length" else "length"
    y = y or "arch"
    if measure.quantity.learned:
        free = iter(sorted(free, key=lambda name: (name != DRAWN, name != "arch")))
    return Choice("heatmap", x, y, _facet(runs, asked, free, x, y), None, measure)


def _profile(runs: Sequence[Run], asked: Request) -> Choice:
    facet = _facet(runs, asked, _free(runs, asked))
    groups: dict[Any, list[Run]] = {}
    for run in runs if facet == "clip" else _first_rule(runs):
        groups.setdefault(run.fields[facet] if facet else None, []).append(run)
    for group in groups.values():
        if len(group) > 1:
            differ = [name for name in FIELDS if len(values_of(group, name)) > 1]
            raise InputError(
                f"profile: a panel shows one run, and {len(group)} match; they differ in "
                f"{', '.join(differ)}: choose with --where {_quoted(differ[0], group)}"
            )
    return Choice("profile", "lag", "length", facet, None, asked.measure)


def _quoted(field: str, runs: Sequence[Run]) -> str:
    """A field and its first value, as a shell takes them."""
    return shlex.quote(f"{field}={text(values_of(runs, field)[0])}")


def _curves(runs: Sequence[Run], asked: Request) -> Choice:
    explained = varying(runs, asked.measure)
    free = [name for name in _free(runs, asked) if name != "clip"]
    x = asked.x or asked.measure.along or (free or ["seed"])[0]
    few = [name for name in free if name != x and len(values_of(runs, name)) <= MOST_COLORS]
    explaining = [name for name in few if explained[name] >= LEAST or name == "arch"]
    if asked.panels:  # lengths have panels
        explaining.sort(key=lambda name: name != "length")
    apart = [name for name in explaining if name != "length" or not asked.panels]
    cells = [name for name in (DRAWN, "arch") if name in apart]
    y = asked.y or next(iter([*cells, *apart]), None)
    facet = _facet(runs, asked, (name for name in explaining if name != y), x, y)
    stroke = "clip" if "clip" in explained and "clip" not in (x, y, facet) else None
    if y is None:
        y, stroke = stroke, None
    return Choice("curves", x, y, facet, stroke, asked.measure)


def _distribution(runs: Sequence[Run], asked: Request) -> Choice:
    left = [name for name in _free(runs, asked) if name != "clip"]
    length = "length" if "length" in asked.measure.axes else "arch"
    x = asked.x or next(iter(left), length)
    clips = "clip" in varying(runs, asked.measure) and "clip" not in asked.given.values()
    y = asked.y or ("clip" if clips else None)
    facet = _facet(runs, asked, (name for name in left if name not in (x, y)), x, y)
    return Choice("distribution", x, y, facet, None, asked.measure)


def _histogram(runs: Sequence[Run], asked: Request) -> Choice:
    free = iter(sorted(_free(runs, asked), key=lambda name: name == "clip"))
    x = (
        "lag" if "length" in asked.measure.coordinates else "arch"
    )  # what is pooled, beside the networks
    y = asked.y or next(free, None)
    facet = _facet(runs, asked, free, x, y)
    return Choice("histogram", x, y, facet, None, asked.measure)


_KINDS: dict[str, Callable[[Sequence[Run], Request], Choice]] = {
    "heatmap": _heatmap,
    "profile": _profile,
    "curves": _curves,
    "distribution": _distribution,
    "histogram": _histogram,
}


def one_rule(runs: Sequence[Run], choice: Choice) -> list[Run]:
    """The runs of one clip rule where the figure does not tell rules apart: the first in order; and
    of the longest length of training where it does not tell lengths apart."""
    kept = list(runs) if "clip" in choice.fields else _first_rule(runs)
    if choice.measure.of_training and not {"length", RELATIVE} & {*choice.fields}:
        longest = max(run.fields["length"] for run in kept)
        kept = [run for run in kept if run.fields["length"] == longest]
    return kept


def _first_rule(runs: Sequence[Run]) -> list[Run]:
    rule = values_of(runs, "clip")[0]
    return [run for run in runs if run.fields["clip"] == rule]


def _free(runs: Sequence[Run], asked: Request) -> Iterator[str]:
    return (
        name
        for name in varying(runs, asked.measure)
        if name not in asked.given.values()
        and name not in ("seed", RELATIVE)
        and not (name == "length" and RELATIVE in asked.given.values())
    )


def _facet(
    runs: Sequence[Run], asked: Request, names: Iterator[str], *placed: str | None
) -> str | None:
    """The first of the names that tells enough, and anything beside the fields that have a place:
    a gain that only some initialisations take needs no panels beside these."""
    if asked.facet is not None or not asked.panels:
        return asked.facet
    explaining = varying(runs, asked.measure)
    few = (name for name in names if len(values_of(runs, name)) <= MOST_PANELS)
    chosen = [name for name in placed if name in FIELDS]
    return next(
        (name for name in few if explaining[name] >= LEAST and _splits(runs, name, chosen)), None
    )


def _splits(runs: Sequence[Run], name: str, chosen: Sequence[str]) -> bool:
    """Whether runs that agree on the fields `chosen` differ in another."""
    found: dict[tuple[Any, ...], Any] = {}
    for run in runs:
        key = tuple(run.fields[field] for field in chosen)
        if found.setdefault(key, run.fields[name]) != run.fields[name]:
            return True
    return False


def _coordinate(runs: Sequence[Run], asked: Request) -> str | None:
    """The lengths where runs have several, or else the lags."""
    taken = asked.given.values()
    if "length" not in asked.measure.coordinates:
        return None
    if any(run.lengths.size > 1 for run in runs) and "length" not in taken:
        return "length"
    several = len({int(run.lengths[-1]) for run in runs}) > 1
    return "length" if several and "length" not in taken else "lag" if "lag" not in taken else None


@dataclass(frozen=True)
class Selection:
    """What a figure draws: the runs, pooled into series, and where their fields go."""

    choice: Choice
    runs: list[Run]
    series: list[Series]

    @property
    def archs(self) -> list[str]:
        return values_of(self.runs, "arch")

    @cached_property
    def learnable(self) -> Mapping[tuple[Any, ...], LearnableLength]:
        """The learnable length of all that agree on the figure's fields besides the length, by the
        values of these fields; there where the share that has solved each length is drawn."""
        if self.choice.measure.quantity.name != "solved" or "length" not in self.choice.fields:
            return {}
        groups: dict[tuple[Any, ...], list[Run]] = {}
        for run in self.runs:
            groups.setdefault(self.values_told_apart(run.fields), []).append(run)
        found = {key: learnable(group) for key, group in groups.items()}
        return {key: one for key, one in found.items() if one is not None}

    @cached_property
    def alike(self) -> Mapping[str, str]:
        """Of clip rules whose values are the same in all series the first, with all their names:
        `none = step-norm:1`. Those that are like an earlier one are left out."""
        if "clip" not in self.choice.fields:
            return {}
        found: dict[str, dict[tuple[Any, ...], Series]] = {}
        for one in self.series:
            rest = tuple(value for name, value in one.key.items() if name != "clip")
            found.setdefault(one.key["clip"], {})[rest] = one
        groups: list[list[str]] = []
        for rule in values_of(self.runs, "clip"):
            same = next((group for group in groups if _same(found[group[0]], found[rule])), None)
            if same is None:
                groups.append([rule])
            else:
                same.append(rule)
        return {group[0]: ALIKE.join(group) for group in groups}

    def values_told_apart(self, fields: Mapping[str, Any]) -> tuple[Any, ...]:
        """The values of the figure's fields besides the length."""
        own = {"length", *self.choice.coordinates}
        return tuple(fields[name] for name in self.choice.fields if name not in own)

    @property
    def value_label(self) -> str:
        """What is said of the measure, in the words of the kinds of runs drawn."""
        return in_links(self.choice.measure.label, kinds.links(self.archs))

    def label(self, name: str) -> str:
        """What is said of a field or coordinate, in the same words."""
        return label(name, self.archs)

    def scaled(self, option: str, scale: str | None) -> "Selection":
        """It on a scale of numbers, "linear", in place of their log10, "log" or None.

        Raises InputError, that begins with the option, for a measure that is no log10.
        """
        measure = self.choice.measure
        if scale is not None and measure.kind != "decades":
            raise refuse(option, scale, f"logarithms alone have a choice, not {measure.name}")
        if scale != "linear":
            return self

        def number(decades: NDArray) -> NDArray:
            with np.errstate(over="ignore"):
                return np.power(10.0, decades)

        return Selection(
            replace(self.choice, measure=measure.as_number),
            [replace(run, values=number(run.values)) for run in self.runs],
            [
                replace(s, low=number(s.low), value=number(s.value), high=number(s.high))
                for s in self.series
            ],
        )

    def named(self, name: str, value: Any) -> str:
        """A field and its value, in the same words."""
        return named(name, value, self.archs)

    def panels(self) -> Iterator[tuple[str, list[Series]]]:
        """The series of each panel, with what it is headed."""
        facet = self.choice.facet
        if facet is None:
            yield "", self.series
            return
        for value in values_of(self.runs, facet):
            yield self.named(facet, value), [one for one in self.series if one.key[facet] == value]


def _same(some: Mapping[Any, Series], others: Mapping[Any, Series]) -> bool:
    """Whether series that agree on all but the rule have the same values, but for rounding."""
    return some.keys() == others.keys() and all(
        one.value.shape == others[key].value.shape
        and np.allclose(one.ends, others[key].ends, rtol=0, atol=ROUNDING, equal_nan=True)
        for key, one in some.items()
    )


def _of_layers(results: Iterable[Measured], asked: Request) -> Request:
    """A profile of layered networks is a map of their layers' parts by lag."""
    if asked.kind != "profile" or asked.facet == PART:
        return asked
    if not all(is_layered(result.spec) for result in results):
        return asked
    return replace(asked, kind="heatmap", x="lag", y=PART)


def select(results: Results, asked: Request) -> Selection:
    """Read results as far as the figure needs them, twice where the first look was too short.

    What is pooled besides seeds is said in a note. Raises InputError where nothing is left to draw.
    """
    results = each(results)
    asked = _of_layers(results, asked)
    runs = read(results, asked.measure, asked.coordinates, asked.where, asked.apart)
    choice = choose(runs, asked)
    several = choice.coordinates or asked.measure.quantity.learned
    if several and choice.coordinates != asked.coordinates:
        runs = read(results, asked.measure, choice.coordinates, asked.where, asked.apart)
    runs = one_rule(runs, choice)
    series = pool(runs, asked.measure, choice.fields)
    note_pooled(runs, series[0].key)
    if all(np.isnan(one.value).all() for one in series):
        raise InputError(f"value: {asked.value} is nan throughout; there is nothing to draw")
    return Selection(choice, runs, series)
