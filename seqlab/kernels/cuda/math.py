"""tanh with its slope, sigmoid and softplus on the device; exp is CUDA's own, through `math`.

One thread by itself calls any of them. Ones come in the argument's own precision: a literal would
promote float32 to float64.
"""

import math

from seqlab.kernels.cuda.target import device


@device
def tanh(x):
    """tanh(x) and its slope 4 E/(1 + E)^2, E = exp(-2|x|): 1 - tanh(x)^2 would be zero where tanh
    rounds to one."""
    one, two = type(x)(1), type(x)(2)
    e = math.exp(-two * abs(x))
    inverse = one / (one + e)
    return math.tanh(x), two * two * e * inverse * inverse


@device
def sigmoid_pair(x):
    """sigmoid(x) and sigmoid(-x) = 1 - sigmoid(x), by exp(-|x|) so that whichever is small keeps
    its digits."""
    zero, one = type(x)(0), type(x)(1)
    e = math.exp(-abs(x))
    large = one / (one + e)
    small = e * large
    return (small, large) if x < zero else (large, small)


@device
def exp_near_zero(x):
    """exp(x) whose rounding leans to no side near x = 0. Errors of CUDA's float32 exp do not
    average out there, and add up in a product of thousands of factors."""
    one = type(x)(1)
    return one + math.expm1(x) if abs(x) + abs(x) < one else math.exp(x)


@device
def sigmoid(x):
    """1 / (1 + exp(-x)) alone."""
    return sigmoid_pair(x)[0]


@device
def softplus(x):
    """ln(1 + exp(x)) = max(x, 0) + ln(1 + exp(-|x|))."""
    zero = type(x)(0)
    return (zero if x < zero else x) + math.log1p(math.exp(-abs(x)))
