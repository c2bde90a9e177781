"""The inverse question: which value of an option keeps so much of the gradient over some steps?"""

import math
import warnings
from dataclasses import dataclass, replace
from itertools import count, pairwise
from pathlib import Path
from typing import Any, Unpack

import numpy as np
from numpy.typing import NDArray

from seqlab.errors import InputError
from seqlab.measure.progress import Pace
from seqlab.numbers.crossings import Crossing, Middle, crossings
from seqlab.numbers.quantity import LN10
from seqlab.numbers.statistics import median, median_interval
from seqlab.report import reach_table
from seqlab.spec.keywords import ReachOptions, options_of
from seqlab.spec.kinds import Progress
from seqlab.spec.run import RunSpec
from seqlab.spec.table import TABLE
from seqlab.study import limits
from seqlab.study.progress_line import Asked, reporting
from seqlab.study.result import Result
from seqlab.study.run import Folder, check, measure_spec
from seqlab.study.store import Store
from seqlab.wording import did_you_mean, one_of, refuse, short_repr

PLACES = 17  # at which values are tried before crossings are looked for between them
TRIES = 28  # that a crossing and the ends of its interval take, about
_FIXED = ("clip", "lengths", "spectrum", "truncation")  # each run: the unclipped curve alone


@dataclass(frozen=True)
class Answer:
    """A value of the option that keeps what was asked for, as the median over networks has it.

    `low` and `high` hold all values around it at which the median's own 95% interval (of order
    statistics) has what was asked for; None for an end beyond the range, and where fewer than 6
    networks say nothing of an interval. `rising` says whether more of the option keeps more. On the
    way back the median's largest value is 10^`peak`, at `peak_lag`: above 0 it grows first.
    `result` is the run at this value.
    """

    value: float
    low: float | None
    high: float | None
    rising: bool
    peak: float
    peak_lag: int
    result: Result


@dataclass(frozen=True, eq=False, repr=False)
class Reach:
    """What keeps `keep` of the gradient over `steps` steps: see `answers`, smallest value first;
    none where no value between the ends does.

    `tried` has every run, by the value of the option `vary`.
    """

    vary: str
    keep: float
    between: tuple[float, float]
    answers: tuple[Answer, ...]
    tried: tuple[Result, ...]

    @property
    def steps(self) -> int:
        return self.tried[0].spec.steps

    def summary(self) -> str:
        """The table that `seqlab reach` prints; no newline at the end."""
        return reach_table.table([self])

    def to_json(self) -> dict[str, Any]:
        """The document that `--json` prints, in strict JSON's own types."""
        return reach_table.document(self)

    def __repr__(self) -> str:
        found = ", ".join(f"{answer.value:.6g}" for answer in self.answers) or "none"
        asked = f"keeps {self.keep:g} over {self.steps} steps"
        return f"Reach: {self.vary} that {asked}: {found}; {len(self.tried)} values tried"

    def plot(self, path: Folder) -> None:
        """Draw what is kept against the option, the answers marked, as .pdf, .svg or .png; the data
        beside it as .csv. Raises InputError."""
        from seqlab.figures.answers import plot_answers

        plot_answers(self, path)


@options_of(TABLE, ReachOptions)
def reach(
    *,
    vary: str,
    keep: float = 1e-3,
    between: tuple[float, float] | None = None,
    backend: str = "auto",
    store: Folder | None = None,
    progress: Asked = None,
    **fields: Unpack[ReachOptions],
) -> Reach:
    """Find the values of a number that draws networks at which `keep` of the gradient's norm is
    left after `steps` steps.

    `vary` is the option, such as "forget_bias" or "gain", `between` the ends of where to look (the
    option's own, if it is left out); `fields` are the other options of `seqlab run`. The same
    random numbers draw the networks for every value, so that what is kept is a continuous function
    of it, though a steep one where the dynamics are chaotic. It is tried at 17 places, evenly
    spaced (in logarithm where they are all above 0), and crossings are found between them. Each try
    is a run; those that `store` has are not measured again. Raises InputError before any work.
    """
    with reporting(progress) as tell:
        return Search(vary, keep, between, dict(fields), backend, store, tell).found()


class Search:
    """A question, checked, and its runs by the place of their value: the value, or where all are
    above 0 its logarithm. See `reach` for what it is made with and raises."""

    def __init__(
        self,
        vary: str,
        keep: float,
        between: tuple[float, float] | None,
        fields: dict[str, Any],
        backend: str,
        store: Folder | None,
        progress: Progress | None,
    ) -> None:
        self.vary = vary = vary.replace("-", "_")
        self.between = _ends(vary, between)
        if not (isinstance(keep, int | float) and 0 < keep < math.inf):
            raise refuse("keep", keep, "a positive, finite number")
        for name in (vary, *_FIXED):
            if fields.get(name) not in (None, ()):
                raise InputError(
                    f"{name}: {short_repr(fields[name])} means nothing here; leave it out"
                )
        self._share, self._keep, self._fields = keep, math.log(keep), fields
        self._backend, self._store = backend, store
        self._pace, self._tries, self._expected = Pace(progress), count(1), PLACES + TRIES
        low, high = self.between
        self._in_log = low > 0
        ends = (math.log(low), math.log(high)) if self._in_log else (low, high)
        self._places = np.linspace(*ends, PLACES).tolist()
        self._runs: dict[float, Result] = {}
        check(self._spec(low), store, backend)
        self._spec(high)

    def found(self) -> Reach:
        """Try values until the answers are known."""
        tried_first = [self._middle(place).value < 0 for place in self._places]
        self._expected = PLACES + TRIES * sum(a != b for a, b in pairwise(tried_first))
        answers = tuple(self._answer(one) for one in crossings(self._middle, self._places))
        tried = tuple(self._runs[value] for value in sorted(self._runs))
        self._pace(1.0, "done")
        return Reach(self.vary, self._share, self.between, answers, tried)

    def _middle(self, place: float) -> Middle:
        """ln of what is kept, over what is asked for."""
        kept = _kept(self._run(place)) - self._keep
        return Middle(float(median(kept)), *(median_interval(kept) or (math.nan, math.nan)))

    def _answer(self, crossing: Crossing) -> Answer:
        result = self._run(crossing.at)
        curve = median(result.variables["log_norm"].data[:, 0, 0])
        top = int(np.nanargmax(curve))
        low, high = (
            None if end is None else self._value(end) for end in (crossing.low, crossing.high)
        )
        peak_lag = int(result.variables["lag"].data[top])
        peak = float(curve[top]) / LN10
        value = self._value(crossing.at)
        return Answer(value, low, high, crossing.rising, peak, peak_lag, result)

    def _value(self, place: float) -> float:
        low, high = self.between  # which a logarithm and back would leave by a last digit
        return min(max(math.exp(place), low), high) if self._in_log else place

    def _spec(self, value: float) -> RunSpec:
        fixed: dict[str, Any] = {"clip": "none", self.vary: value}
        spec = RunSpec.create(limits.require_memory, **self._fields, **fixed)
        return replace(spec, lengths=(spec.steps,))  # which one's own input may say

    def _run(self, place: float) -> Result:
        value = self._value(place)
        if value not in self._runs:
            self._runs[value] = self._measured(self._spec(value), value)
        return self._runs[value]

    def _measured(self, spec: RunSpec, value: float) -> Result:
        def say(fraction: float, what: str) -> None:
            tries = max(self._expected, number)  # nobody knows before how many it takes
            done = (number - 1 + fraction) / (tries + 1)
            self._pace(done, f"try {number}, {self.vary} {value:.6g}: {what}")

        number = next(self._tries)
        known = None if self._store is None else Store(Path(self._store)).find(spec, warnings.warn)
        return known or measure_spec(spec, self._backend, self._store, say)


def _ends(vary: str, between: tuple[float, float] | None) -> tuple[float, float]:
    """Where values are looked for. Raises InputError."""
    searched = {name: row.searched for name, row in TABLE.items() if row.searched}
    if vary not in searched:
        raise refuse("vary", vary, one_of(searched) + did_you_mean(vary, searched))
    if between is None:
        return searched[vary]
    try:
        low, high = map(float, between)
    except (TypeError, ValueError):
        low = high = math.nan
    if not -math.inf < low < high < math.inf:
        raise refuse("between", between, "two numbers, the smaller one first")
    return low, high


def _kept(result: Result) -> NDArray:
    """ln of the share of the gradient's norm that is left after all steps, (M,)."""
    return np.asarray(result.variables["log_norm"].data[:, 0, 0, -1])
