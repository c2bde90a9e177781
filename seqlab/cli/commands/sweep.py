"""`seqlab sweep`: all runs of a study that a store lacks."""

import sys
from contextlib import ExitStack

import click

from seqlab.cli import completion, options, streams
from seqlab.cli.errors import FAILED


@click.command(short_help="Measure all runs of a study.")
@click.argument("study", metavar="STUDY.toml", shell_complete=completion.files)
@options.store("Folder for the results, one file a run.")
@click.option(
    "--scheduler", metavar="ADDRESS", help="Measure on the Dask cluster at tcp://HOST:PORT."
)
@options.backend()
@click.option("--dry-run", is_flag=True, help="Say what would be measured and what it takes.")
@click.option("--retry-failed", is_flag=True, help="Try again what failed before.")
@options.progress()
def sweep(
    study: str,
    store: str,
    scheduler: str | None,
    backend: str,
    dry_run: bool,
    retry_failed: bool,
    progress: str,
) -> None:
    """Measure every run of a study that the store does not have yet.

    To go on after an interruption, give the same command again. Exit 1 if a run failed.

    Example: seqlab sweep study.toml --store results
    """
    from pathlib import Path

    from seqlab.cli.progress import ProgressLine
    from seqlab.spec.study import StudySpec
    from seqlab.study import cluster
    from seqlab.study.sweep import check, preview, sweep

    spec = StudySpec.read(study)
    if dry_run:
        check(spec, Path(store), backend, elsewhere=scheduler is not None)
        for note in spec.notes:
            streams.write_error(note)
        streams.write_out(preview(spec, Path(store)))
        return
    with ExitStack() as stack:
        client = stack.enter_context(cluster.connect(scheduler)) if scheduler else None
        line = stack.enter_context(ProgressLine(mode=progress))
        outcome = sweep(
            spec,
            store,
            backend=backend,
            client=client,
            retry_failed=retry_failed,
            progress=line,
            report=line.note,
        )
    streams.write_out(f"{spec.name}: {outcome} in {store}")
    if outcome.failed:
        sys.exit(FAILED)
