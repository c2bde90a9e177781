"""What the commands that measure have in common: architectures measured one after the other, kept,
and shown beside each other."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from seqlab.cli import streams
from seqlab.cli.outputs import Outputs
from seqlab.errors import InputError

if TYPE_CHECKING:
    from seqlab.numbers.rules_of_thumb import Line
    from seqlab.spec.kinds import Progress, Spec
    from seqlab.spec.option import Table
    from seqlab.study.result import Result

    Checked = list[dict[str | None, list[Line]]]  # of each result, by the clip rules it is made for

Create = Callable[..., "Spec"]  # as `seqlab.spec.kinds.create`


def measure_and_show(
    create: Create,
    table_of: "Callable[[str], Table]",
    archs: Sequence[str],
    *,
    default_arch: str | None = None,
    source: str | None,
    backend: str,
    checks: bool = False,
    **given: Any,
) -> None:
    """Measure a spec of what was `given` for each architecture, or again what `source` measured.

    `table_of` an architecture has its options; of several, what means nothing for some is left out
    there. `default_arch` is taken where there is none, None to have `create` ask for one; with
    `checks` the checklist of each result is shown too. Where results go is among what was given.

    Raises InputError before any work.
    """
    from seqlab.measure.progress import parts
    from seqlab.study.run import check, measure_spec

    outputs = Outputs.taken(given)
    fields = {name: value for name, value in given.items() if value not in (None, ())}
    if source is None:
        specs = _specs(create, table_of, archs or (default_arch,), fields, outputs)
    else:
        specs = [_repeated(source, archs, fields)]
    outputs.check()
    for spec in specs:
        check(spec, outputs.store, backend)
    if checks:
        _require_checkable(specs)
    results: list[Result] = []
    checked: Checked = []
    with outputs.line() as line:
        shares = iter(parts(line, [weight for spec in specs for weight in _weights(spec, checks)]))
        for spec in specs:
            part = _named(next(shares), spec.arch)
            results.append(measure_spec(spec, backend, outputs.store, part, streams.write_error))
            if checks:
                checked.append(
                    {
                        rule: results[-1].checks(_named(next(shares), spec.arch), rule=rule)
                        for rule in _ruled(spec)
                    }
                )
    show(results, outputs, checked=checked)


def show(
    results: "Sequence[Result]",
    outputs: Outputs,
    *,
    checked: "Checked | None" = None,
    parts: bool = False,
) -> None:
    """Print results, and draw them; with `parts` those of their states."""
    from seqlab.spec import kinds

    if outputs.as_json:
        documents = [result.to_json() for result in results]
        if checked:
            _add_checks(documents, checked)
        text = outputs.documents(documents)
    else:
        text = kinds.table(results, brief=outputs.quiet)
        if checked:
            text += f"\n\n{_checklists(results, checked)}"
    try:
        streams.write_out(text)
    finally:  # also where stdout is full
        if outputs.plot is not None:
            from seqlab.figures import plot_reach, plot_results

            (plot_reach if parts else plot_results)(results, outputs.plot)
    outputs.drawn()


def _weights(spec: "Spec", checks: bool) -> list[float]:
    """About the seconds that a spec's measurement takes, and each of its checklists."""
    from seqlab.spec import kinds

    found = [kinds.cost(spec).seconds(spec, threads=1)]
    if checks:
        from seqlab.learning.checklist import seconds

        found += [seconds(spec)] * len(_ruled(spec))
    return found


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


def _specs(
    create: Create,
    table_of: "Callable[[str], Table]",
    archs: Sequence[Any],
    given: dict[str, Any],
    outputs: Outputs,
) -> "list[Spec]":
    from seqlab.spec import kinds
    from seqlab.spec.dropped import for_each
    from seqlab.study.limits import require_memory

    for name in archs:
        if archs.count(name) > 1:
            what = kinds.of(name).table["arch"].label
            raise InputError(f"arch: {name!r} is given twice; each {what} once")
    apart, notes = for_each(archs, given, table_of)
    specs = [create(require_memory, **fields) for fields in apart]
    for note in notes:
        outputs.tell(note)
    return specs


def _repeated(source: str, archs: Sequence[str], given: dict[str, Any]) -> "Spec":
    from seqlab.study.result import read_spec

    if beside := [*(["arch"] if archs else []), *given]:
        raise InputError(f"{beside[0]}: means nothing beside from, whose file says what to measure")
    return read_spec(source)


def _named(part: "Progress | None", arch: str) -> "Progress":
    assert part is not None  # the line's
    return lambda fraction, what: part(fraction, f"{arch}: {what}")
