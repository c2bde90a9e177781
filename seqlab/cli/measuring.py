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

    Checked = dict[str, list[Line]]  # by architecture

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
    checked: Checked = {}
    with ProgressLine() as line:
        for spec in specs:
            say = partial(_say, line, spec.arch)
            results.append(measure_spec(spec, backend, store, say, streams.tell))
            if checks:
                checked[spec.arch] = results[-1].checks(say)
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

    checked = checked or {}
    if as_json:
        documents = [result.to_json() | _checks(checked, result) for result in results]
        whole = documents if len(documents) > 1 else documents[0]
        text = json.dumps(whole, indent=2, allow_nan=False)
    else:
        text = kinds.table(results) + _below(checked)
    try:
        streams.say(text)
    finally:  # also where stdout is full
        if plot is not None:
            from seqlab.figures import plot_reach, plot_results

            (plot_reach if parts else plot_results)(results, plot)


def _require_checkable(specs: "Sequence[Spec]") -> None:
    from seqlab.learning.checklist import require_checkable

    for spec in specs:
        require_checkable(spec)


def _checks(checked: "Checked", result: "Result") -> dict[str, Any]:
    """What a result's document gains by its checklist."""
    if not checked:
        return {}
    from seqlab.report import checklist

    return {"checks": checklist.document(checked[result.spec.arch])}


def _below(checked: "Checked") -> str:
    """What stands below the table of the results."""
    if not checked:
        return ""
    from seqlab.report import checklist

    return f"\n\n{checklist.text(checked)}"


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
