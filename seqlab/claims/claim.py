"""What is claimed: a sentence, the runs that settle it, and the rule that turns their numbers into
a verdict. The claims themselves are data, in `book/`; no verdict is written there."""

import math
import shlex
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from importlib.resources import files
from typing import Any

from seqlab.claims.readings import Reading, reading
from seqlab.claims.slope import Slope
from seqlab.errors import InputError
from seqlab.numbers.estimate import Estimate
from seqlab.spec import kinds
from seqlab.spec.kinds import Spec
from seqlab.spec.learn import LearnSpec
from seqlab.spec.run import RunSpec
from seqlab.spec.stack import StackSpec
from seqlab.spec.stack_table import DEFAULT_ARCH
from seqlab.spec.train import TrainSpec
from seqlab.wording import did_you_mean, one_of

BOOK = files("seqlab.claims") / "book"
PAGES = ("slopes", "depth", "draws", "norms", "skips", "sequences", "signs")
PAPERS = "papers"  # the page of what papers print, where others have what is said
COMMANDS: dict[str, type[Spec]] = {
    "run": RunSpec,
    "depth": StackSpec,
    "learn": LearnSpec,
    "train": TrainSpec,
}
HOLDS, ONLY_IF, NOT, OPEN = "holds", "only if", "does not hold", "undecided"


@dataclass(frozen=True)
class Rule:
    """What a number must be for a sentence to be true: between `low` and `high`."""

    low: float = -math.inf
    high: float = math.inf

    @classmethod
    def parse(cls, text: str) -> "Rule":
        """It of "above A", "below B" or "within A:B". Raises InputError."""
        word, _, numbers = text.partition(" ")
        try:
            ends = [float(number) for number in numbers.split(":")]
        except ValueError:
            ends = []
        if word == "above" and len(ends) == 1:
            return cls(low=ends[0])
        if word == "below" and len(ends) == 1:
            return cls(high=ends[0])
        if word == "within" and len(ends) == 2 and ends[0] < ends[1]:
            return cls(*ends)
        raise InputError(f"holds: {text!r} is not allowed; above A, below B or within A:B")

    def judge(self, found: Estimate) -> bool | None:
        """Whether it holds of the whole interval, or of no number in it; None for neither."""
        above = self.low == -math.inf or self.low < found.low
        below = self.high == math.inf or found.high < self.high
        if above and below:
            return True
        return False if found.high <= self.low or self.high <= found.low else None

    def __str__(self) -> str:
        if math.isinf(self.low):
            return f"below {self.high:g}"
        if math.isinf(self.high):
            return f"above {self.low:g}"
        return f"from {self.low:g} to {self.high:g}"


@dataclass(frozen=True)
class Case:
    """One measurement: the options of a command and, where their difference is the number, those of
    what is subtracted; or a slope, which needs no run.

    `said` is False of a condition that the sentence does not name; `name` says either so that "only
    if" can go before it. `theory` is in the reading's unit, None where there is none.
    """

    name: str
    command: str
    runs: tuple[Mapping[str, Any], ...]
    slope: Slope | None
    said: bool
    theory: float | None

    @cached_property
    def specs(self) -> tuple[Spec, ...]:
        """What is measured: one spec, or that and the one subtracted; of a slope none."""
        return tuple(_spec(self.command, options) for options in self.runs)

    def commands(self) -> list[str]:
        """The commands that measure it, as a shell takes them."""
        return [_words(self.command, options) for options in self.runs]

    @property
    def link(self) -> str:
        """What the number counts, where it counts something."""
        return next((kinds.of_spec(spec).link for spec in self.specs), "step")


@dataclass(frozen=True)
class Claim:
    """A sentence in our words, who says it, and how it is settled.

    `reading` is the number that is read off a run; the sentence holds in a case where `rule` does
    of the number. A claim without cases is a quotation, with its `source`, or cannot be settled
    here, and `why`. `slow` ones are measured only where all are asked for. Of a `paper`'s the
    theory beside a number is what it prints.
    """

    id: str
    statement: str
    heard: str
    reading: Reading | None
    rule: Rule
    cases: tuple[Case, ...]
    reason: str
    theory: str
    source: str
    why: str
    slow: bool
    paper: bool

    @property
    def measured(self) -> bool:
        """Whether a measurement settles it."""
        return bool(self.cases)

    def verdict(self, found: Sequence[Estimate]) -> str:
        """What the numbers of its cases make of the sentence.

        It holds where it does in all cases that it speaks of, and does not where it does in none at
        all; in between only under the conditions of those in which it does.
        """
        judged = [self.rule.judge(one) for one in found]
        said = [one for one, case in zip(judged, self.cases, strict=True) if case.said]
        if all(said):
            return HOLDS
        if None in judged and not any(one is False for one in said):
            return OPEN
        under = [case.name for one, case in zip(judged, self.cases, strict=True) if one]
        return f"{ONLY_IF} {one_of(under)}" if under else OPEN if None in judged else NOT


def _spec(command: str, options: Mapping[str, Any]) -> Spec:
    spec = COMMANDS[command]
    if spec in (StackSpec, TrainSpec):
        return spec.create(**spec.table.fields({"arch": DEFAULT_ARCH, **options}))
    return spec.create(**options)


def _words(command: str, options: Mapping[str, Any]) -> str:
    words = ["seqlab", command]
    for name, value in options.items():
        for one in value if isinstance(value, list) else [value]:
            words += [f"--{name.replace('_', '-')}", *([] if one is True else [f"{one}"])]
    return shlex.join(words)


@cache
def book() -> dict[str, Claim]:
    """Every claim, by its id, in the order of the book. Raises InputError for one that means
    nothing."""
    found: dict[str, Claim] = {}
    for page in (*PAGES, PAPERS):
        text = (BOOK / f"{page}.toml").read_text(encoding="utf-8")
        for claim in read(text, paper=page == PAPERS):
            if claim.id in found:
                raise InputError(f"claim {claim.id}: there are two of that name")
            found[claim.id] = claim
    return found


def chosen(names: Sequence[str], papers: bool = False) -> list[Claim]:
    """Some claims of the book (d05 is D05), or all that people say, or all that `papers` print.
    Raises InputError for one that is not there."""
    there = book()
    names = [name.upper() for name in names]
    for name in names:
        if name not in there:
            close = did_you_mean(name, there)
            raise InputError(f"claim: {name!r} is not in the book; --list shows all{close}")
    if names:
        return [there[name] for name in names]
    return [claim for claim in there.values() if claim.paper == papers]


def read(text: str, paper: bool = False) -> Iterator[Claim]:
    """The claims of one page, of what people say or of a `paper`. Raises InputError."""
    for entry in tomllib.loads(text)["claim"]:
        name = entry.get("id", "?")
        try:
            yield _claim(dict(entry), paper)
        except (InputError, KeyError, TypeError) as error:
            raise InputError(f"claim {name}: {error}") from error


def _claim(entry: dict[str, Any], paper: bool) -> Claim:
    cases = tuple(_case(dict(case)) for case in entry.pop("case", ()))
    if not (cases or entry.get("source") or entry.get("why")):
        raise InputError("it has neither cases, nor a source, nor says why it cannot be settled")
    read_off, holds = entry.pop("reading", None), entry.pop("holds", None)
    if cases and not any(case.said for case in cases):
        raise InputError("none of its cases is what it says")
    if any((case.slope is not None) != (read_off == "slope") for case in cases):
        raise InputError("reading slope is for cases that are slopes, and for these alone")
    claim = Claim(
        entry.pop("id"),
        entry.pop("statement"),
        entry.pop("heard"),
        reading(read_off) if cases else None,
        Rule.parse(holds) if cases else Rule(),
        cases,
        entry.pop("reason", ""),
        entry.pop("theory", ""),
        entry.pop("source", ""),
        entry.pop("why", ""),
        entry.pop("slow", False),
        paper,
    )
    if entry:
        raise InputError(f"{next(iter(entry))!r} means nothing here")
    return claim


def _case(entry: dict[str, Any]) -> Case:
    name, said, theory = (
        entry.pop("name"),
        not entry.pop("beyond", False),
        entry.pop("theory", None),
    )
    slope, minus = entry.pop("slope", None), entry.pop("minus", None)
    if slope is not None:
        case = Case(name, "", (), Slope.parse(slope), said, theory)
    else:
        command = next((name for name in COMMANDS if name in entry), None)
        if command is None:
            raise InputError(f"a case needs {one_of([*COMMANDS, 'slope'])}")
        # One rule is enough; training has one where the book says which.
        plain = {} if command in ("learn", "train") else {"clip": "none"}
        given = [entry.pop(command), minus] if minus is not None else [entry.pop(command)]
        runs = tuple(options | plain | options for options in given)
        case = Case(name, command, runs, None, said, theory)
    if entry:
        raise InputError(f"{next(iter(entry))!r} means nothing in a case")
    if len({spec.networks for spec in case.specs}) > 1:  # specs that mean nothing are refused too
        raise InputError("a difference is of as many networks")
    return case
