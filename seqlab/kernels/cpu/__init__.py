"""The kernels on the CPU."""

from seqlab.kernels.cpu.threads import ahead, side_by_side, thread_count

__all__ = ["BLOCK_BYTES", "ahead", "side_by_side", "workers"]

BLOCK_BYTES = 24 << 20  # of trajectories that a thread has in flight: soon touched again


def workers() -> int:
    """Blocks of networks that are worked on at once."""
    return thread_count()
