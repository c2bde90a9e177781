"""The kernels on the CPU."""

from seqlab.kernels.cpu.threads import thread_count

BLOCK_BYTES = 96 << 20  # of trajectories in flight: small enough to be touched again soon


def fewest_networks() -> int:
    """Networks that keep every thread busy."""
    return thread_count()
