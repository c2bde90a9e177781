"""The parts of deep stacks on the CPU: each forward and back, over some networks at one layer.

Arrays are (M, S, units, C): a state of units by rows at step s of a segment or, on the way back, an
adjoint at loss s of a bundle. C columns hold the rows and a few more, up to whole vectors of the
processor, so that products have no rest. What those hold on the way forward is nobody's; on the way
back it is zero.
"""
