"""One file a cell: its kernels on the CPU."""
