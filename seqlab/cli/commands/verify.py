"""`seqlab verify`: the lab's numbers checked where it runs."""

import sys
from typing import TYPE_CHECKING

import click

from seqlab.cli import options, streams
from seqlab.cli.errors import FAILED

if TYPE_CHECKING:
    from seqlab.claims.checks import Check


@click.command(short_help="Check the numbers on this machine.")
@options.backend()
def verify(backend: str) -> None:
    """Check gradients and closed forms on this machine; exit 1 if one fails."""
    from seqlab.claims.checks import run_checks
    from seqlab.kernels.backends import resolve

    if not run_checks(_print_check, resolve(backend)):
        sys.exit(FAILED)


def _print_check(check: "Check") -> None:
    verdict = "ok" if check.passed else "FAILED"
    streams.say(
        f"{verdict:<6}  {check.name:<40}  {check.error:8.1e} (<= {check.tolerance:.0e})"
        f"  {check.seconds:5.1f} s"
    )
