"""The elementwise activations of deep stacks, value and slope of one number.

The slope comes from z, never from the value: GELU and SiLU are not monotone, and 1 - tanh^2 is zero
where the true slope is small. At a kink it is that of the left side, as in PyTorch. NaN stays NaN
(identity's slope is 1 even there), and an infinite z gives the limits. Sources: see
`seqlab.numbers.activations`, whose functions of arrays these are.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

from seqlab.numbers.spellings import taken_apart

# The distinct algebras: prelu is leaky with another number, selu is elu with a scale. relu is no
# leaky with zero, since 0 * -inf is NaN.
KINDS = (
    "identity",
    "sigmoid",
    "tanh",
    "erf",
    "relu",
    "leaky",
    "elu",
    "gelu",
    "silu",
    "softplus",
)
FAR = 2048  # a finite |z| at which exp(-|z|) is zero in every format


class Choice(NamedTuple):
    """An activation for the algebras: which of KINDS, its number `a` below zero, and the factor on
    the whole."""

    kind: int
    a: float
    scale: float


def choose(name: str) -> Choice:
    """The algebra of a name that `seqlab.numbers.activations.find_activation` takes.

    Raises InputError.
    """
    kind, number = taken_apart(name)
    if kind == "selu":
        # SciPy comes with it, which no kernel needs.
        from seqlab.numbers.activations import SELU_ALPHA, SELU_SCALE

        return Choice(KINDS.index("elu"), SELU_ALPHA, SELU_SCALE)
    if kind in ("leaky", "prelu"):
        kind = "leaky" if number else "relu"
    return Choice(KINDS.index(kind), number or 0.0, 1.0)


class Functions(NamedTuple):
    """What a backend has for the algebras, functions of one number x: sigmoid(x); the pair
    (sigmoid(x), sigmoid(-x)); tanh(x) and its slope; erf(x) and its slope; softplus(x); the pair
    (exp(-|x|), expm1(-|x|)); and the normal distribution function with its density."""

    sigmoid: Any
    sigmoid_pair: Any
    tanh: Any
    erf: Any
    softplus: Any
    decay: Any
    normal: Any


def make_activations(compiled: Callable, functions: Functions) -> tuple[Any, ...]:
    """For each of KINDS phi(z, a, scale) -> (value, slope), for a backend: `compiled` compiles a
    function that its kernels call.

    z, a and scale have one dtype. Zero and one come in it: a literal would promote float32.
    """
    sigmoid_of, sigmoid_pair, tanh_of, erf_of, softplus_of, decay, normal = functions

    @compiled
    def identity(z, a, scale):
        return z, type(z)(1)

    @compiled
    def sigmoid(z, a, scale):
        both = sigmoid_pair(z)
        return both[0], both[0] * both[1]

    @compiled
    def tanh(z, a, scale):
        return tanh_of(z)

    @compiled
    def erf(z, a, scale):
        return erf_of(z)

    @compiled
    def relu(z, a, scale):
        zero, one = type(z)(0), type(z)(1)
        value = zero if z <= zero else z
        return value, one if value > zero else value  # 0, or NaN

    @compiled
    def leaky(z, a, scale):
        zero, one = type(z)(0), type(z)(1)
        slope = a if z <= zero else one
        return slope * z, slope if z == z else z

    @compiled
    def elu(z, a, scale):
        zero, one = type(z)(0), type(z)(1)
        slope, value = decay(z)
        above = z > zero
        return scale * (z if above else a * value), scale * (one if above else a * slope)

    @compiled
    def gelu(z, a, scale):
        low, inner = within(z)
        share, density = normal(z)
        return low * share, share + inner * density

    @compiled
    def silu(z, a, scale):
        one = type(z)(1)
        low, inner = within(z)
        share, rest = sigmoid_pair(z)
        return low * share, share * (one + inner * rest)

    @compiled
    def within(z):
        """z from -FAR up, and up to FAR: times a zero it is no NaN where z is infinite."""
        far = type(z)(FAR)
        low = -far if z < -far else z
        return low, far if low > far else low

    @compiled
    def softplus(z, a, scale):
        return softplus_of(z), sigmoid_of(z)

    return identity, sigmoid, tanh, erf, relu, leaky, elu, gelu, silu, softplus
