"""`seqlab claims`: what everybody says of vanishing gradients, each with a number and a verdict."""

from typing import TYPE_CHECKING

import click

from seqlab.cli import completion, options, streams
from seqlab.cli.outputs import figure_note
from seqlab.errors import InputError

if TYPE_CHECKING:
    from seqlab.claims.claim import Claim


def _known() -> list[str]:
    from seqlab.claims.claim import book

    return list(book())


@click.command(short_help="What is said of vanishing gradients, measured.")
@click.argument("ids", nargs=-1, metavar="[ID]...", shell_complete=completion.words(_known))
@click.option("--all", "everything", is_flag=True, help="Measure those that take long too.")
@click.option("--papers", is_flag=True, help="What papers print instead, beside what is measured.")
@click.option("--list", "listed", is_flag=True, help="Measure nothing: show what the store has.")
@options.backend()
@options.store("Folder of the results that claims are settled by.")
@options.plot("Draw the curves of one claim to a .pdf, .svg or .png; their data: .csv.")
@options.as_json("Print JSON instead of the table.")
@click.option("--markdown", is_flag=True, help="Print a table in Markdown instead.")
@options.progress()
def claims(
    ids: tuple[str, ...],
    everything: bool,
    papers: bool,
    listed: bool,
    backend: str,
    store: str,
    plot: str | None,
    as_json: bool,
    markdown: bool,
    progress: str,
) -> None:
    """What everybody says of vanishing gradients: a sentence, a number, a verdict.

    Without an ID all are shown, measured where the store does not have them yet; with IDs, these,
    measured now, and how to measure each by hand. A sentence holds where the whole 95% interval of
    the number does what it says.

    Example: seqlab claims D05 S03
    """
    import json
    import warnings
    from pathlib import Path

    from seqlab.claims import presentation
    from seqlab.claims.claim import chosen
    from seqlab.claims.court import Court, seconds_left
    from seqlab.cli.progress import ProgressLine
    from seqlab.measure.progress import Pace, parts

    options.at_most_one(json=as_json, markdown=markdown)
    options.at_most_one(all=everything, list=listed, plot=plot is not None)
    for flag, given in (("all", everything), ("papers", papers)):
        if given and ids:
            raise InputError(f"{flag}: not allowed beside an ID; one of them")
    court, asked = Court(Path(store), backend, warnings.warn), chosen(ids, papers)
    if plot is not None:
        _check_plot(plot, asked)
    found = []
    measured = [] if listed else [c for c in asked if everything or ids or not c.slow]
    with ProgressLine(mode=progress) as line:
        weights = seconds_left(measured, None if ids else Path(store))
        shares = iter(parts(Pace(line), weights))
        for claim in asked:
            if claim in measured:
                found.append(court.measure(claim, bool(ids), next(shares)))
            else:
                found.append(court.stored(claim))
    if plot is not None:
        from seqlab.claims.figure import draw

        draw(asked[0], court.results(asked[0]), plot)
        streams.write_error(figure_note(plot))
    if as_json:
        streams.write_out(json.dumps(presentation.document(found), indent=2, allow_nan=False))
    elif markdown:
        streams.write_out(presentation.page(found))
    elif ids:
        streams.write_out("\n\n".join(map(presentation.details, found)))
    else:
        streams.write_out(presentation.table(found))


def _check_plot(plot: str, asked: "list[Claim]") -> None:
    """Refuse a figure that could not be drawn. Raises InputError."""
    options.check_figure("plot", plot)
    if len(asked) > 1:
        raise InputError(f"plot: {plot!r} is not allowed with {len(asked)} claims; one ID")
    if not any(case.specs for case in asked[0].cases):
        raise InputError(f"plot: {asked[0].id} has no curves; a claim that is settled by runs")
