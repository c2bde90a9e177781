"""`seqlab table`: a store in the terminal."""

import click

from seqlab.cli import streams
from seqlab.cli.errors import complaints


@click.command(short_help="Show a store: architectures x lengths.")
@click.argument("store", metavar="STORE")
def table(store: str) -> None:
    """Show the attenuation of all results in a folder, architectures x lengths.

    Exit 1 if a file is damaged; the table has all others.
    """
    from seqlab.report import store_table
    from seqlab.study import load

    with complaints() as complain:
        streams.say(store_table.table(load.load(store, complain)))
