"""How far a gradient reaches in somebody's own model: PyTorch's, in log scale, and the parameters
of other frameworks for the lab's kernels.

PyTorch is found through the modules and tensors that are given, and never imported before.
"""
