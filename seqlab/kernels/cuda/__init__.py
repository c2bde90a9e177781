"""The kernels on a GPU; nothing is imported from CUDA until a cell or `target` is."""

BLOCK_BYTES = 1 << 30  # of trajectories in flight: what a tape keeps without computing it again


def fewest_networks() -> int:
    """Networks worth a launch."""
    return 1
