"""sigmoid and softplus on the device; exp and tanh are CUDA's own, through `math`.

`one` is 1 in the argument's precision: a literal would promote float32 to float64.
"""

import math

from seqlab.kernels.cuda.target import device


@device
def sigmoid(x, one):
    """1 / (1 + exp(-x)), by exp(-|x|) so that small values keep their digits."""
    e = math.exp(-abs(x))
    return (e if x < one - one else one) / (one + e)


@device
def softplus(x, one):
    """ln(1 + exp(x)) = max(x, 0) + ln(1 + exp(-|x|))."""
    zero = one - one
    return (zero if x < zero else x) + math.log1p(math.exp(-abs(x)))
