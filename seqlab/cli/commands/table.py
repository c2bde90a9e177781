"""`seqlab table`: a store in the terminal."""

import click

from seqlab.cli import completion, options, streams
from seqlab.cli.errors import complaints


@click.command(short_help="Show a store: architectures x lengths.")
@click.argument("store", metavar="STORE", shell_complete=completion.folders)
@options.as_json("Print JSON instead: a list, an object for each row of `seqlab export`.")
def table(store: str, as_json: bool) -> None:
    """Show the attenuation of all results in a folder, architectures x lengths.

    Exit 1 if a file is damaged; the table has all others.
    """
    import json

    from seqlab.report import store_table
    from seqlab.study import load

    with complaints() as complain:
        frame = load.load(store, complain)
        if as_json:
            streams.write_out(json.dumps(store_table.document(frame), indent=2, allow_nan=False))
        else:
            streams.write_out(store_table.table(frame))
