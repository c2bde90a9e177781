"""How far a gradient reaches in somebody's own model, and its parameters for the lab's kernels."""
