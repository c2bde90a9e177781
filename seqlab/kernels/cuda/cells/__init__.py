"""One file a cell: its kernels on a GPU."""
