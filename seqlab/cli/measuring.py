"""What the commands that measure have in common: architectures measured one after the other, kept,
and shown beside each other."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from seqlab.cli import options, streams
from seqlab.errors import InputError

if TYPE_CHECKING:
    from seqlab.numbers.rules_of_thumb import Line
    from seqlab.spec.kinds import Spec
    from seqlab.study.result import Result

    Checked = list[dict[str | None, list[Line]]]  # of each result, by the clip rules it is made for

Create = Callable[..., "Spec"]  # as `seqlab.spec.kinds.create`


def measure_and_show(
    create: Create,
    archs: Sequence[str],
    *,
    default_arch: str | None = None,
    source: str | None,
    backend: str,
    store: str,
    plot: str | None,
    as_json: bool,
    checks: bool = False,
    **fields: Any,
) -> None:
    """Measure a spec of `fields` for each architecture, or again what `source` measured.

    `default_arch` is taken where there is none, None to have `create` ask for one; with `checks`
    the checklist of each result is shown too.

    Raises InputError before any work.
    """
    from seqlab.cli.progress import ProgressLine
    from seqlab.study.run import check, measure_spec

    given = {name: value for name, value in fields.items() if value not in (None, ())}
    if source is None:
        specs = _specs(create, archs or (default_arch,), given)
    else:
        specs = [_repeated(source, archs, given)]
    if plot is not None:
        options.check_figure("plot", plot)
    for spec in specs:
        check(spec, store, backend)
    if checks:
        _require_checkable(specs)
    results: list[Result] = []
    checked: Checked = []
    with ProgressLine() as line:
        for spec in specs:
            say = partial(_say, line, spec.arch)
            results.append(measure_spec(spec, backend, store, say, streams.tell))
            if checks:
                checked.append({rule: results[-1].checks(say, rule=rule) for rule in _ruled(spec)})
    show(results, as_json=as_json, plot=plot, checked=checked)


def show(
    results: "Sequence[Result]",
    *,
    as_json: bool,
    plot: str | None,
    checked: "Checked | None" = None,
    parts: bool = False,
) -> None:
    """Print results, and draw them; with `parts` those of their states."""
    import json

    from seqlab.spec import kinds

    if as_json:
        documents = [result.to_json() for result in results]
        if checked:
            _add_checks(documents, checked)
        whole = documents if len(documents) > 1 else documents[0]
        text = json.dumps(whole, indent=2, allow_nan=False)
    else:
        text = kinds.table(results)
        if checked:
            text += f"\n\n{_checklists(results, checked)}"
    try:
        streams.say(text)
    finally:  # also where stdout is full
        if plot is not None:
            from seqlab.figures import plot_reach, plot_results

            (plot_reach if parts else plot_results)(results, plot)


# What checks is loaded where it is asked for: it takes longer than a short run.


def _add_checks(documents: list[dict[str, Any]], checked: "Checked") -> None:
    from seqlab.report import checklist

    for document, one in zip(documents, checked, strict=True):
        document["checks"] = checklist.by_rule(one)


def _checklists(results: "Sequence[Result]", checked: "Checked") -> str:
    from seqlab.report import checklist

    return checklist.of_specs([result.spec for result in results], checked)


def _require_checkable(specs: "Sequence[Spec]") -> None:
    from seqlab.learning.checklist import require_checkable

    for spec in specs:
        if not _is_training(spec):
            require_checkable(spec)


def _is_training(spec: "Spec") -> bool:
    from seqlab.spec.learn import LearnSpec

    return isinstance(spec, LearnSpec)


def _ruled(spec: "Spec") -> "tuple[str | None, ...]":
    """The rules that a spec has a checklist for each of; None for one that goes by no rule."""
    return spec.clip if _is_training(spec) else (None,)


def _specs(create: Create, archs: Sequence[str | None], given: dict[str, Any]) -> "list[Spec]":
    from seqlab.spec import kinds
    from seqlab.study.limits import require_memory

    for name in archs:
        if archs.count(name) > 1:
            what = kinds.of(name).table["arch"].label
            raise InputError(f"arch: {name!r} is given twice; each {what} once")
    return [create(require_memory, arch=name, **given) for name in archs]


def _repeated(source: str, archs: Sequence[str], given: dict[str, Any]) -> "Spec":
    from seqlab.study.result import read_spec

    if beside := [*(["arch"] if archs else []), *given]:
        raise InputError(f"{beside[0]}: means nothing beside from, whose file says what to measure")
    return read_spec(source)


def _say(line: Callable[[float, str], None], arch: str, fraction: float, what: str) -> None:
    line(fraction, f"{arch}: {what}")
