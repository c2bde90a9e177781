"""The answers of `seqlab reach`: the table that a terminal shows, at most 80 columns, and the
document that `--json` prints."""

import math
from collections.abc import Iterator, Sequence
from typing import Any, Protocol

from seqlab.numbers.quantity import HORIZON, LN10
from seqlab.numbers.statistics import median
from seqlab.report.entries import entries, strict_json
from seqlab.report.measured import Measured
from seqlab.report.run_table import heading, shared_settings
from seqlab.report.text import Row, fill, grid
from seqlab.spec.table import TABLE
from seqlab.wording import describe_value

_HEADERS = ("interval", "left", "largest, at lag", f"horizon {HORIZON}", "a larger one")
_LEGEND = f"""\
interval       the values at which the 95% interval of the median over networks has as much
beyond         past the ends of what was tried
largest        of the median on the way back from lag 0
horizon        first lag at which the median is under {HORIZON}; > T: not within T
"""
_TERM = 15  # columns that the legend has for what it explains


class Found(Protocol):
    """A value that keeps what was asked for; see `seqlab.study.reach`."""

    @property
    def value(self) -> float: ...

    @property
    def low(self) -> float | None: ...

    @property
    def high(self) -> float | None: ...

    @property
    def rising(self) -> bool: ...

    @property
    def peak(self) -> float: ...

    @property
    def peak_lag(self) -> int: ...

    @property
    def result(self) -> Measured: ...


class Question(Protocol):
    """A question and what was found; see `seqlab.study.reach`."""

    @property
    def vary(self) -> str: ...

    @property
    def keep(self) -> float: ...

    @property
    def steps(self) -> int: ...

    @property
    def between(self) -> tuple[float, float]: ...

    @property
    def answers(self) -> Sequence[Found]: ...

    @property
    def tried(self) -> Sequence[Measured]: ...


def value_of(result: Measured, vary: str) -> float:
    """The value of the option in one run."""
    return float(getattr(result.spec, vary))


def kept(result: Measured) -> float:
    """Decades of the gradient that are left after all steps, the median over networks."""
    return float(median(result.variables["log_norm"].data[:, 0, 0, -1])) / LN10


def table(found: Sequence[Question], brief: bool = False) -> str:
    """The answers to several questions as text, one after the other; no newline at the end. The
    legend of all stands below them, if they are not `brief`."""
    parts = [_table(one) for one in found]
    if not brief and any(one.answers for one in found):
        parts.append("\n".join(fill(line, _TERM) for line in _LEGEND.splitlines()))
    return "\n\n".join(parts)


def _table(found: Question) -> str:
    label = str(TABLE[found.vary].label)
    parts = [
        heading(found.tried, shared_settings(found.tried)),
        fill(
            f"which {label} keeps {found.keep:g} of the gradient over {found.steps} steps? "
            f"{len(found.tried)} values tried from {_number(found.between[0])} to "
            f"{_number(found.between[1])}"
        ),
    ]
    if found.answers:
        parts.append(grid([_HEADERS], [(label, []), *_rows(found)]))
    else:
        parts.append(fill(_none(found)))
    return "\n\n".join(parts)


def document(found: Question) -> dict[str, Any]:
    """The answers in strict JSON's own types."""
    return {
        "vary": found.vary,
        "keep": found.keep,
        "steps": found.steps,
        "between": list(found.between),
        "answers": [
            {
                "value": one.value,
                "interval": [one.low, one.high],
                "rising": one.rising,
                "log10_attenuation": strict_json(kept(one.result)),
                "log10_largest": strict_json(one.peak),
                "largest_lag": one.peak_lag,
                "horizon": entries(one.result)[0]["horizon"],
                "result": _path(one.result),
            }
            for one in found.answers
        ],
        "tried": [
            {
                "value": value_of(result, found.vary),
                "log10_attenuation": strict_json(kept(result)),
                "result": _path(result),
            }
            for result in found.tried
        ],
    }


def _rows(found: Question) -> Iterator[Row]:
    for one in found.answers:
        horizon = entries(one.result)[0]["horizon"][HORIZON]
        ends = [_number(end) if end is not None else "beyond" for end in (one.low, one.high)]
        known = one.low is not None or one.high is not None
        yield (
            f"  {one.value:.5g}",
            [
                f"[{', '.join(ends)}]" if known else "-",
                _power(kept(one.result)),
                f"{_power(one.peak)} at {one.peak_lag}",
                f"> {found.steps}" if horizon is None else str(horizon),
                "keeps more" if one.rising else "keeps less",
            ],
        )


def _none(found: Question) -> str:
    """What is kept at the ends, where nothing between keeps what was asked for."""
    ends = [found.tried[0], found.tried[-1]]
    told = ", ".join(
        f"{_power(kept(result))} is left at {_number(value_of(result, found.vary))}"
        for result in ends
    )
    return f"none does: {told}"


def _power(decades: float) -> str:
    if math.isnan(decades):
        return "no number"
    return "0" if decades == -math.inf else f"10^{decades:.2f}"


def _number(value: float) -> str:
    return describe_value(float(f"{value:.4g}"))


def _path(result: Measured) -> str | None:
    return None if result.path is None else str(result.path)
