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
@options.progress()
def verify(backend: str, progress: str) -> None:
    """Check gradients and closed forms on this machine; exit 1 if one fails."""
    from seqlab.claims.checks import run_checks
    from seqlab.cli.progress import ProgressLine
    from seqlab.kernels.backends import resolve
    from seqlab.measure.progress import Pace

    chosen = resolve(backend)
    with ProgressLine(mode=progress) as line:

        def print_check(check: "Check") -> None:
            with line.aside():
                streams.write_out(_row(check))

        passed = run_checks(print_check, chosen, Pace(line))
    if not passed:
        sys.exit(FAILED)


def _row(check: "Check") -> str:
    verdict = "ok" if check.passed else "FAILED"
    return (
        f"{verdict:<6}  {check.name:<40}  {check.error:8.1e} (<= {check.tolerance:.0e})"
        f"  {check.seconds:5.1f} s"
    )
