"""`seqlab bench`: seqlab beside its peers."""

import sys

import click

from seqlab.cli import completion, options, streams
from seqlab.cli.errors import FAILED


def _jobs() -> list[str]:
    from seqlab.bench.suite import read

    suite = read()
    return [*(case.name for case in suite.cases), *suite.select([])]


def _peers() -> list[str]:
    from seqlab.bench.peers import PEERS

    return list(PEERS)


@click.command(short_help="Time seqlab beside PyTorch, JAX and mambapy.")
@click.argument("cases", metavar="[CASES.toml]", required=False, shell_complete=completion.files)
@click.option(
    "--only",
    multiple=True,
    metavar="NAME",
    shell_complete=completion.words(_jobs),
    help="A case, or one of its jobs (CASE/JOB); may be repeated. [default: all]",
)
@click.option(
    "--out",
    default="seqlab-bench",
    metavar="DIR",
    show_default=True,
    help="Folder for the tables; what it has of other jobs stays.",
)
@click.option(
    "--peers",
    metavar="NAMES",
    shell_complete=completion.words(_peers, listed=True),
    help="Whom to race. [default: torch,jax,mambapy; on cuda cudnn, and our own CPU always]",
)
@options.backend("cpu", "What to time: cpu or cuda.")
def bench(
    cases: str | None, only: tuple[str, ...], out: str, peers: str | None, backend: str
) -> None:
    """Time seqlab beside its peers, and beside what this machine can do at best.

    Takes about 20 minutes; the machine should do nothing else. Peers come with
    pip install 'seqlab[peers]', in a clone '.[peers]'. Exit 1 if a side computes something else.

    Example: seqlab bench --only study --out results
    """
    from pathlib import Path

    from seqlab.bench.command import bench as measure
    from seqlab.bench.peers import ON_CPU, ON_GPU
    from seqlab.bench.suite import BUILT_IN
    from seqlab.bench.suite import ON_GPU as CASES_ON_GPU
    from seqlab.kernels.backends import resolve

    chosen = resolve(backend)
    usual = ON_GPU if chosen == "cuda" else ON_CPU
    names = list(usual) if peers is None else [name for name in peers.split(",") if name]
    built_in = CASES_ON_GPU if chosen == "cuda" else BUILT_IN
    path = built_in if cases is None else Path(cases)
    outcome = measure(path, only, Path(out), names, streams.write_error, chosen)
    streams.write_out(outcome.targets)
    if outcome.failed:
        streams.write_error(f"failed: {', '.join(outcome.failed)}")
        sys.exit(FAILED)
