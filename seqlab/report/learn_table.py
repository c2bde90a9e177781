"""The table of training that a terminal shows: a row a rule and length, cells or stacks compared,
at most 80 columns."""

import math
from collections.abc import Iterator, Sequence
from typing import cast

from seqlab.numbers.quantity import HORIZON
from seqlab.report.entries import Entry
from seqlab.report.measured import Measured
from seqlab.report.run_table import Group, groups_of, heading, share, stored
from seqlab.report.text import Row, fill, grid
from seqlab.spec import kinds
from seqlab.spec.learn import LearnSpec
from seqlab.spec.training import TrainingSpec
from seqlab.tasks import TESTED_BY
from seqlab.wording import describe_value

_TRAINED = (
    ("solved", "updates", "best", "final", "", "learning", "horizon"),
    ("[95% interval]", "to solve", "loss", "loss", "fired", "rate", "after"),
)
_TESTED = (("loss of", "right"), ("the test", "answers"))
_LEGEND = """\
solved         mean loss of the last 100 new {} under the share of the trivial loss
updates        Kaplan-Meier median over networks, those that never solve it among them
loss           median over networks: the least, and the last, of these means
fired          share of updates at which the rule acted; inside the chain, of their {}s
horizon        first lag at which the median |dL/d state| is under {}; >: not as near as that
learnable      {} that half of the networks learn, by a logistic fit in its logarithm"""
_TEST = (
    "test           medians over networks, of {:,} new {}; 'right' is the share of right answers"
)
_PAST = " that are as long as is said, past the steps of training"
_TERM = 15  # columns that the legend has for what it explains


def table(results: Sequence[Measured], brief: bool = False) -> str:
    """Results of training as text, compared where there are several; no newline at the end. A
    `brief` one is without its legend and the files."""
    common, groups = groups_of(results)
    parts = [
        heading(results, common),
        "\n".join(dict.fromkeys(_criterion(spec_of(group.result)) for group in groups)),
        grid(_TRAINED, [row for group in groups for row in _trained(group)]),
        _tests(groups),
        grid(_reach_head(groups), [row for group in groups for row in _reach(group)]),
        "\n".join(fill(line) for group in groups for line in _remarks(group)),
        "" if brief else "\n".join(fill(line, _TERM) for line in _legend(groups)),
        "" if brief else stored(results),
    ]
    return "\n\n".join(part for part in parts if part)


def spec_of(result: Measured) -> TrainingSpec:
    """The spec of a result of training."""
    return cast(TrainingSpec, result.spec)


def _criterion(spec: TrainingSpec) -> str:
    """What an answer costs that ignores its inputs, and what counts as solved."""
    trivial = {n: f"{spec.trained_on.trivial(n):.4g}" for n in spec.lengths}
    part = describe_value(spec.solved)
    if len(set(trivial.values())) == 1:
        (loss,) = set(trivial.values())
        under = f"{spec.trained_on.solved(spec.steps, spec.solved):.4g}"
        return fill(f"{spec.trained_on}: trivial loss {loss}; solved under {under}, {part} of it")
    told = ", ".join(f"{loss} at {n}" for n, loss in trivial.items())
    return fill(f"{spec.trained_on}: trivial loss {told}; solved under {part} of it")


def _trained(group: Group) -> Iterator[Row]:
    spec = spec_of(group.result)
    yield from group.head(group.settings)
    for entry in group.entries:
        yield group.label(f"{entry['clip']}{_thresholds(entry)}"), []
        for k, length in enumerate(spec.lengths):
            yield group.label(f"  {length}"), _cells(spec, entry, k)


def _cells(spec: TrainingSpec, entry: Entry, k: int) -> list[str]:
    def at(name: str) -> float:
        return cast(float, entry[f"{name}_by_length"][k])

    ends = ", ".join(f"{at(f'solved_share_{end}'):.0%}" for end in ("low", "high"))
    return [
        f"{at('networks_solved'):.0f}/{spec.networks} [{ends}]",
        "-" if at("updates_to_solve") is None else f"{at('updates_to_solve'):.0f}",
        _loss(at("best_loss")),
        _loss(at("final_loss")),
        share(at("fired_share")),
        f"{at('learning_rate'):g}",
        _after(spec, entry, k),
    ]


def _loss(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.3g}"


def _after(spec: TrainingSpec, entry: Entry, k: int) -> str:
    """The horizon after training on a length."""
    if entry["networks_diverged_by_length"][k] == spec.networks:
        return "-"
    lag = entry[f"horizon_trained_{HORIZON}_by_length"][k]
    return f"> {spec.lengths[k]}" if lag is None else str(lag)


def _thresholds(entry: Entry) -> str:
    """What a rule in units of the first gradient's norm comes to."""
    if not entry["clip"].endswith("x"):
        return ""
    found = [f"{value:.3g}" for value in entry["clip_threshold_by_length"]]
    return f" (threshold {', '.join(dict.fromkeys(found))})"


def _tests(groups: Sequence[Group]) -> str:
    """How trained networks do on what they never saw, where that was asked for."""
    rows = [row for group in groups if _is_tested(group) for row in _tested(group)]
    return grid(_TESTED, rows) if rows else ""


def _is_tested(group: Group) -> bool:
    return group.entries[0]["test_loss_by_length"] is not None


def _tested(group: Group) -> Iterator[Row]:
    spec = spec_of(group.result)
    yield from group.head()
    for entry in group.entries:
        right = entry["test_accuracy_by_length"] if spec.trained_on.classifies else None
        for k, length in enumerate(spec.lengths):
            told = "-" if right is None else f"{right[k]:.1%}"
            past = f", tested at {spec.test_length}" if isinstance(spec, LearnSpec) else ""
            yield (
                group.label(f"{entry['clip']}, {length}{past}"),
                [_loss(entry["test_loss_by_length"][k]), told],
            )


def _legend(groups: Sequence[Group]) -> list[str]:
    spec = spec_of(groups[0].result)
    of_cells, (link,) = isinstance(spec, LearnSpec), kinds.links([spec.arch])
    lines = _LEGEND.format(spec.called, link, HORIZON, _word(spec)).splitlines()
    test = _TEST.format(TESTED_BY, f"{spec.called}{_PAST if of_cells else ''}")
    return [*lines, *([test] if any(map(_is_tested, groups)) else [])]


def _word(spec: TrainingSpec) -> str:
    """What its command calls a length."""
    return spec.table.words["lengths"].removesuffix("s")


def _reach_head(groups: Sequence[Group]) -> tuple[Sequence[str], ...]:
    learnable = f"learnable {_word(spec_of(groups[0].result))}"
    return ("horizon at", "horizon after", learnable), ("initialisation", "training", "")


def _reach(group: Group) -> Iterator[Row]:
    spec = spec_of(group.result)
    yield from group.head()
    for entry in group.entries:
        first = entry["horizon"][HORIZON]
        yield (
            group.label(entry["clip"]),
            [
                f"> {spec.steps}" if first is None else str(first),
                _after(spec, entry, len(spec.lengths) - 1),
                _learnable(spec, entry),
            ],
        )


def _learnable(spec: TrainingSpec, entry: Entry) -> str:
    shortest, longest = spec.lengths[0], spec.lengths[-1]
    solved = entry["networks_solved_by_length"]
    if min(solved) == spec.networks:
        return f"> {longest}"
    if max(solved) == 0:
        return f"< {shortest}"
    if len(spec.lengths) == 1:
        return "-"
    value, low, high = (entry[f"learnable_length{end}"] for end in ("", "_low", "_high"))
    found = "-" if value is None else f"{value:.3g}"
    if low is None and high is None:
        return found
    first = f"< {shortest}" if low is None else f"{low:.3g}"
    last = f"> {longest}" if high is None else f"{high:.3g}"
    return f"{found} [{first}, {last}]"


def _remarks(group: Group) -> Iterator[str]:
    """What deserves a line where it happens: networks that end."""
    spec = spec_of(group.result)
    for entry in group.entries:
        for length, count in zip(spec.lengths, entry["networks_diverged_by_length"], strict=True):
            if count:
                yield (
                    f"{spec.arch}, {entry['clip']}, {_word(spec)} {length}: {count} of "
                    f"{spec.networks} networks had no finite loss or gradient at an update, and "
                    "ended"
                )
