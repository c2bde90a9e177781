"""What a layer of a deep stack is: part by part, forward and adjoint, in plain Python that a
backend compiles.
"""
