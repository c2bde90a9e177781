"""How far a gradient reaches in somebody's PyTorch module, in log scale.

PyTorch is found through the modules and tensors that are given, and never imported before.
"""
