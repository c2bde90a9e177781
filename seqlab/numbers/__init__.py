"""What is reported: statistics, fits, closed forms; with NumPy and SciPy alone."""
