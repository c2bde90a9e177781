"""What is measured: options, runs, studies, and files of arrays."""
