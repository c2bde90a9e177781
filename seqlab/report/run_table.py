"""The table that a terminal shows: one row a rule, cells compared, at most 80 columns."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from seqlab.numbers.quantity import HORIZON, SMALLEST
from seqlab.report.entries import Entry, entries
from seqlab.report.layer_table import layer_table
from seqlab.report.measured import Measured
from seqlab.report.text import Row, decimals, fill, grid, joined, spread
from seqlab.spec import kinds
from seqlab.spec.kinds import Spec
from seqlab.spec.option import noteworthy, settings
from seqlab.spec.probed import gradients
from seqlab.spec.run import RunSpec
from seqlab.spec.stack import StackSpec
from seqlab.wording import describe_settings, describe_value, in_links, taken

MOST_LENGTHS = 6  # columns of the table by length
MOST_EXPONENTS = 8
_DECAY = (
    ("decay rate, nat/step", "attenuation, decades"),
    ("mean [95% interval]", "median [quartiles]"),
)
_LAGS = (
    ("horizon", "float32", "float64", "", "", "gradient norm", ""),
    (HORIZON, "zero", "zero", "fit", "clipped", "before -> after", "cosine"),
)
_FITS = {"exponential": "exp", "power": "pow", None: "-"}
_SINGLE, _DOUBLE = (SMALLEST[dtype] for dtype in ("float32", "float64"))
_LEGEND = f"""\
decay rate     slope of ln |{{gradient}}| against the lag; mean over networks
attenuation    log10 of |{{gradient}}| T steps before the loss over that at lag 0
horizon        {{first}} at which the median over networks is under {HORIZON}
float32 zero   the same for the smallest float32, 2^{_SINGLE}; float64 zero: 2^{_DOUBLE}
> T            not within the T steps
fit            exp (exponential) or pow (power law), whichever misses by less
clipped        share of steps where the rule acted; norm, value: of networks
gradient norm  log10 over all parameters, median; before and after clipping
cosine         mean, between all parameters' gradient under the rule and without"""
_TERM = 15  # columns that the legend has for what it explains


@dataclass(frozen=True)
class Group:
    """One architecture's rows, under a title where several are compared."""

    result: Measured
    entries: list[Entry]
    settings: str  # those that not all cells share
    titled: bool

    @property
    def link(self) -> str:
        """What its lags count."""
        return _links([self.result])[0]

    def head(self, settings: str = "") -> list[Row]:
        """The line above the rows, where there is one."""
        return [(fill(self.result.spec.arch + settings), [])] if self.titled else []

    def label(self, name: str) -> str:
        return f"  {name}" if self.titled else name


def table(results: Sequence[Measured], brief: bool = False) -> str:
    """Results as text, compared where there are several; no newline at the end. A `brief` one is
    without its legend and the files."""
    common, groups = groups_of(results)
    links, decay_rows = _links(results), list(_decay_rows(groups))
    parts = [
        heading(results, common),
        grid([[in_links(head, links) for head in row] for row in _DECAY], decay_rows),
        _lags(groups),
        _by_length(groups, links),
        *(layer_table(result, brief) for result in results if len(results) == 1),
        "\n".join(map(fill, _remarks(groups))),
        *([] if brief else [_legend(results, links), stored(results)]),
    ]
    return "\n\n".join(part for part in parts if part)


def groups_of(results: Sequence[Measured]) -> tuple[dict[str, str], list[Group]]:
    """The settings that all results share, and their rows."""
    common = shared_settings(results)
    return common, [_group(results, result, common) for result in results]


def stored(results: Sequence[Measured]) -> str:
    """Where they are kept."""
    return "\n".join(fill(f"stored: {result.path}") for result in results if result.path)


def _legend(results: Sequence[Measured], links: Sequence[str]) -> str:
    gradient = gradients(getattr(result.spec, "engine", None) for result in results)
    strides = {getattr(result.spec, "every", None) or 1 for result in results}
    first = "first lag" if strides == {1} else f"first multiple of {max(strides)}"
    lines = _LEGEND.format(gradient=gradient, first=first).splitlines()
    return "\n".join(fill(in_links(line, links), _TERM) for line in lines)


def _links(results: Sequence[Measured]) -> tuple[str, ...]:
    return kinds.links(result.spec.arch for result in results)


def _settings(result: Measured) -> dict[str, str]:
    names = settings(kinds.of_spec(result.spec).table)
    values = {name: getattr(result.spec, name) for name in names}
    return {name: describe_value(value) for name, value in values.items() if value is not None}


def shared_settings(results: Sequence[Measured]) -> dict[str, str]:
    """The settings that all results share, as people read them."""
    first, *others = map(_settings, results)
    return {k: v for k, v in first.items() if all(other.get(k) == v for other in others)}


def _described(results: Sequence[Measured], own: Mapping[str, str]) -> str:
    """Settings in the words of the results' kind; of several kinds, by the fields' names."""
    words, *others = (kinds.of_spec(result.spec).table.words for result in results)
    words = {} if any(other != words for other in others) else words
    return describe_settings({words.get(name, name): value for name, value in own.items()})


def heading(results: Sequence[Measured], common: dict[str, str]) -> str:
    """What is measured, and where."""
    cells = ", ".join(dict.fromkeys(result.spec.arch for result in results))
    backends = " and ".join(sorted({result.backend for result in results}))
    seconds = sum(result.duration for result in results)
    duration = taken(seconds)
    table = kinds.of_spec(results[0].spec).table
    said = _described(results, noteworthy(table, common))
    return fill(f"{cells}: {said}; measured on {backends} in {duration}")


def _group(results: Sequence[Measured], result: Measured, common: dict[str, str]) -> Group:
    own = {k: v for k, v in _settings(result).items() if k not in common}
    settings = f": {_described(results, own)}" if own else ""
    return Group(result, entries(result), settings, len(results) > 1)


def _decay_rows(groups: Sequence[Group]) -> Iterator[Row]:
    columns = [joined(pair for group in groups for pair in of(group)) for of in (_rates, _decades)]
    cells = map(list, zip(*columns, strict=True))
    for group in groups:
        yield from group.head(group.settings)
        for entry in group.entries:
            yield group.label(entry["clip"]), next(cells)
        yield group.label("theory"), next(cells)


def _rates(group: Group) -> Iterator[tuple[str, str]]:
    pairs = [(entry["decay_rate"], entry["decay_rate_ci95"]) for entry in group.entries]
    write = decimals(4, [x for rate, interval in pairs for x in (rate, *(interval or ()))])
    for rate, interval in pairs:
        yield write(rate), _interval(write, interval)
    theory = group.entries[0]["theory"]
    yield "-" if theory is None else write(theory), ""


def _decades(group: Group) -> Iterator[tuple[str, str]]:
    pairs = [
        (entry["log10_attenuation"], entry["log10_attenuation_iqr"]) for entry in group.entries
    ]
    write = decimals(2, [x for median, quartiles in pairs for x in (median, *quartiles)])
    for median, quartiles in pairs:
        yield write(median), _interval(write, quartiles)
    yield "", ""


def _interval(write: Callable[[float], str], ends: tuple[float, float] | None) -> str:
    """Nothing where there is none, as of one network alone."""
    return "" if ends is None else f"[{', '.join(map(write, ends))}]"


def _lags(groups: Sequence[Group]) -> str:
    """Lags and gradients; without the last column where nobody has measured it."""
    rows = list(_lag_rows(groups))
    if any(entry["gradient_cosine"] is not None for group in groups for entry in group.entries):
        return grid(_LAGS, rows)
    return grid([head[:-1] for head in _LAGS], [(label, cells[:-1]) for label, cells in rows])


def _lag_rows(groups: Sequence[Group]) -> Iterator[Row]:
    for group in groups:
        yield from group.head()
        for entry in group.entries:
            lags = (entry["horizon"][HORIZON], entry["float32_zero_lag"], entry["float64_zero_lag"])
            norms = [entry["log10_param_grad_norm"][when] for when in ("before", "after")]
            yield (
                group.label(entry["clip"]),
                [
                    *(f"> {group.result.spec.steps}" if lag is None else str(lag) for lag in lags),
                    _FITS[entry["fit"]],
                    share(entry["clipped_fraction"]),
                    "-" if None in norms else " -> ".join(map(decimals(2, norms), norms)),
                    _cosine(entry["gradient_cosine"]),
                ],
            )


def _cosine(value: float | None) -> str:
    return "-" if value is None or math.isnan(value) else f"{value:.3f}"


def share(fraction: float) -> str:
    """Of what is not always known."""
    return "-" if math.isnan(fraction) else f"{fraction:.1%}"


def _by_length(groups: Sequence[Group], links: Sequence[str]) -> str:
    """Attenuation at a few of the lengths, first and last among them; all groups share them."""
    lengths = groups[0].result.spec.lengths
    if len(lengths) == 1:
        return ""
    shown = spread(range(len(lengths)), MOST_LENGTHS)
    rows: list[Row] = []
    for group in groups:
        rows += group.head()
        for entry in group.entries:
            values = [entry["log10_attenuation_by_length"][index] for index in shown]
            rows.append((group.label(entry["clip"]), [decimals(2, [x])(x) for x in values]))
    headers = [str(lengths[index]) for index in shown]
    return in_links("attenuation by length, decades\n", links) + grid([headers], rows)


def _truncation(group: Group) -> Iterator[str]:
    """Which lags the parameters' gradient is made of, where that was asked for."""
    spec = group.result.spec
    if (least := getattr(spec, "truncation", None)) is None:
        return
    lag = group.entries[0]["truncation_lag"]
    if lag is None:
        yield f"{spec.arch}: the parameters' gradient has no direction at all"
    else:
        yield (
            f"{spec.arch}: truncate:{lag} keeps a cosine of {least:g} with all parameters' gradient"
        )


def _largest(spec: Spec, shown: Sequence[float]) -> str:
    """How many of all exponents are shown: there are as many as the state has numbers."""
    if isinstance(spec, StackSpec):
        size = spec.hidden * spec.rows
    elif isinstance(spec, RunSpec):
        size = math.prod(spec.cell.adjoint_shape(spec.sizes))
    return f"the {len(shown)} largest of {size}" if len(shown) < size else f"all {size}"


def _remarks(groups: Sequence[Group]) -> Iterator[str]:
    """What deserves a line where it happens: zeros, what left the range, Lyapunov exponents, what
    is to be said of the theory."""
    for group in groups:
        spec = group.result.spec
        yield from kinds.remarks(spec)
        for entry in group.entries:
            for count, what in (
                (entry["zeros"], "exactly zero"),
                (entry["underflows"], f"under the range of {spec.dtype}"),
                (entry["overflows"], "not finite"),
            ):
                if count:
                    yield (
                        f"{spec.arch}, {entry['clip']}: the gradient at lag {spec.steps} is {what} "
                        f"in {count} of {spec.networks} networks"
                    )
        yield from _truncation(group)
        if exponents := group.entries[0]["lyapunov"]:
            shown = exponents[:MOST_EXPONENTS]
            yield (
                f"{spec.arch}, Lyapunov exponents in nat/{group.link}, {_largest(spec, shown)}: "
                f"{', '.join(map(decimals(4, shown), shown))}"
            )
            if dead := group.entries[0]["lyapunov_dead"]:
                yield (
                    f"{spec.arch}: {dead} of {len(exponents)} directions dead (-inf): the product "
                    "of Jacobians has no rank left for them"
                )
            if unknown := sum(map(math.isnan, exponents)):
                yield (
                    f"{spec.arch}: {unknown} of {len(exponents)} exponents not known (nan): "
                    f"saturated units hide them under the rounding of a {group.link}"
                )
