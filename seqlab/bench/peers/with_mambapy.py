"""mambapy: Mamba in PyTorch with a parallel scan (Blelloch 1990)."""

from mambapy.pscan import pscan

from seqlab.bench.peers.with_torch import scan_side
from seqlab.bench.problems import Scan
from seqlab.bench.race import Side


def scan(problem: Scan) -> list[Side]:
    """Its scan, within the same arithmetic as its Mamba block."""
    return [scan_side("mambapy", problem, pscan)]
