"""The command line: options in, tables out. Whatever is heavy is imported inside a command."""

import click

import seqlab
from seqlab.cli.group import Commands


@click.group(
    cls=Commands,
    no_args_is_help=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(seqlab.__version__, message="seqlab %(version)s")
def main() -> None:
    """Measure how gradients fade or grow through time, in recurrent networks and state-space
    models, and through the layers of deep stacks."""
