"""`seqlab export`: a store as one file."""

import click

from seqlab.cli import completion
from seqlab.cli.errors import complaints


@click.command(short_help="Write a store as one tidy table.")
@click.argument("store", metavar="STORE", shell_complete=completion.folders)
@click.option(
    "-o",
    "--output",
    required=True,
    metavar="FILE",
    help="A .csv, or a .parquet with pyarrow.",
    shell_complete=completion.files,
)
def export(store: str, output: str) -> None:
    """Write all results in a folder as one table, a row for each run, clip rule and length.

    Exit 1 if a file is damaged; the table has all others.

    Example: seqlab export results -o tidy.csv
    """
    from seqlab.study import load

    with complaints() as complain:
        load.export(store, output, complain)
