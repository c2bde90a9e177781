"""The sLSTM of xLSTM: exponential input gates, and a normaliser that divides them out (one head).

    f, o = sigmoid(a_f), sigmoid(a_o),   i = e^(a_i),   z = tanh(a_z)
    C_t = f C_{t-1} + i z,   N_t = f N_{t-1} + i,   h_t = o C_t / N_t
    a = W_ih x_t + W_hh h_{t-1} + b,   rows in the order i, f, z, o

Source: Beck et al. 2024, "xLSTM: Extended Long Short-Term Memory", section 2.2, with the sigmoid
of the published code (NX-AI/xlstm) as forget gate. As there, what is kept is c = C e^-m and
n = N e^-m beside the stabiliser m_t = max(ln f + m_{t-1}, a_i), which is a_i where n_{t-1} is 0,
as it is at first. A state is (h, c, n, m).

What is reported is the adjoint of (h, C, N). h_t, C_t and N_t follow from h_{t-1}, C_{t-1} and
N_{t-1} alone: m is a unit of account, in which other numbers say the same, and the derivative by
it at fixed C and N is zero. The adjoint of c and n would move with m from step to step, as if
something faded or grew; that of C and N is handed on by the forget gate, f dL/dC_t, and by W_hh.
So with W_hh = 0, as the cell is drawn, it is a product of forget gates. Its numbers are in units
of e^-m: they stay in the dtype's range as long as a_i does in that of its exponential, +-88 in
float32, +-709 in float64. Beyond, h is right still, and gradients are not numbers.

The parameters in the published code: rows i, f, z, o of weight_ih are the layer's fgate, igate,
zgate and ogate weights, which it hands to its cell in this order; weight_hh and bias are its
cell's _recurrent_kernel_ and _bias_ in the vanilla layout.

A gate comes as the pair (sigmoid(a), sigmoid(-a)), z with its slope. What the loss gives at its
own step goes to the gates apart from what later steps hand back: there N_t cancels, and
z - C_{t-1}/N_{t-1} keeps the digits that z - C_t/N_t loses where one of both makes up nearly all.
"""

import math

import numpy as np
from numpy.typing import NDArray

from seqlab.cells.cell import (
    Cell,
    ClosedForm,
    Cost,
    Draw,
    Gates,
    Lab,
    Observed,
    Parameters,
    Sizes,
    Theory,
)
from seqlab.cells.draws import SCALED, ZEROS, gated_sizes, recurrent_blocks, scaled_input
from seqlab.cells.recurrent import sums
from seqlab.numbers.theory import diagonal_rate

GATES = 4
INPUT_GATE, FORGET_GATE, CANDIDATE, OUTPUT_GATE = range(GATES)
# The coefficients' order. Those of the output take dL/dh_t, the others dL/dC_t or dL/dN_t.
COEFFICIENTS = (
    "output_cell",
    "output_normalizer",
    "carry",
    "input_cell",
    "input_normalizer",
    "output_input",
    "forget_cell",
    "forget_normalizer",
    "output_forget",
    "candidate",
    "output_gate",
)
NEVER_ZERO = (0, 2, 9)  # those that no finite state makes zero
# Forget biases fall over the units from HIGHEST by SPAN, as the power POWER of their place: the
# published code's powerlaw_blockdependent, of one block.
HIGHEST, SPAN, POWER = 5.0, 12.0, 0.3
INPUT_SCALE = math.sqrt(2 / 5)  # over sqrt I: small init


def make_step(compiled, sigmoid, tanh, exp, softplus):
    """One unit's step forward, for a backend: `compiled` compiles a function that its kernels call,
    `sigmoid` and `tanh` give the pairs above."""

    @compiled
    def stabilised(a_i, a_f, n, m):
        """i e^-m_t, f e^(m_{t-1} - m_t), and m_t. One of both factors is 1: none overflows."""
        one = type(a_i)(1)
        kept = m - softplus(-a_f)
        lead = a_i - kept
        small = exp(-abs(lead))
        forget = small if lead >= 0 else one
        if n == 0 or lead >= 0:
            return one, forget, a_i
        return small, forget, kept

    @compiled
    def coefficients(f, z, o, into, c, n, inverse, scale):
        """`c` and `n` are what is kept of the last step, `into` what comes in, in units of m_t, and
        `inverse` and `scale` 1/n_t and e^m_t."""
        ratio = (c + into * z[0]) * inverse
        weight = o[0] * inverse / scale
        share = o[0] * into * inverse * inverse * (n * z[0] - c)
        i = into * scale
        return (
            weight,
            -ratio * weight,
            f[0],
            i * z[0],
            i,
            share,
            f[1] * c * scale,
            f[1] * n * scale,
            -f[1] * share,
            i * z[1],
            ratio * o[0] * o[1],
        )

    @compiled
    def step(a_i, a_f, a_z, a_o, c, n, m):
        """h_t, c_t, n_t, m_t, and the factors of the adjoint step in the order of COEFFICIENTS;
        c, n and m are those of the last step."""
        f, o, z = sigmoid(a_f), sigmoid(a_o), tanh(a_z)
        into, forget, after = stabilised(a_i, a_f, n, m)
        c, n = forget * c, forget * n
        c_after, n_after = c + into * z[0], n + into
        inverse = type(n)(1) / n_after
        factors = coefficients(f, z, o, into, c, n, inverse, exp(after))
        return o[0] * c_after * inverse, c_after, n_after, after, factors

    return step


def adjoint(
    dh,
    dc,
    dn,
    output_cell,
    output_normalizer,
    carry,
    input_cell,
    input_normalizer,
    output_input,
    forget_cell,
    forget_normalizer,
    output_forget,
    candidate,
    output_gate,
):
    """One unit's step back: (dL/dh_t, dL/dC_t, dL/dN_t) -> dL/da_i, dL/da_f, dL/da_z, dL/da_o,
    dL/dC_{t-1}, dL/dN_{t-1}.

    dL/dh_{t-1} then is W_hh^T dL/da.
    """
    dc_all = dc + dh * output_cell
    return (
        dc * input_cell + dn * input_normalizer + dh * output_input,
        dc * forget_cell + dn * forget_normalizer + dh * output_forget,
        dc_all * candidate,
        dh * output_gate,
        dc_all * carry,
        (dn + dh * output_normalizer) * carry,
    )


def shapes(sizes: Sizes) -> dict[str, tuple[int, ...]]:
    """Parameter shapes of one network."""
    rows = GATES * sizes.hidden
    return {
        "weight_ih": (rows, sizes.inputs),
        "weight_hh": (rows, sizes.hidden),
        "bias": (rows,),
    }


def state_shape(sizes: Sizes) -> tuple[int, int]:
    """The state of one sequence: (h, c, n, m), (4, H)."""
    return (4, sizes.hidden)


def power_law(hidden: int) -> NDArray:
    """The published forget biases, (H,): from 5 at the first unit to -7 at the last."""
    place = np.arange(hidden) / max(hidden - 1, 1)
    return HIGHEST - SPAN * place**POWER


def draw(rng: np.random.Generator, sizes: Sizes, how: Draw) -> Parameters:
    """Draw one network as the published code does: input weights N(0, 2/(5 I)) (small init, after
    Nguyen & Salazar 2019), no recurrent ones, forget biases by the power law, no others.

    An `init` other than zeros draws recurrent weights. `input_scale` replaces the scale of the
    input weights, and zeroes the biases; `forget_bias` is all units'.
    """
    scale = INPUT_SCALE if how.input_scale is None else how.input_scale
    params = {name: np.zeros(shape) for name, shape in shapes(sizes).items()}
    params["weight_ih"] = scaled_input(rng, params["weight_ih"].shape, scale)
    if how.init in SCALED:
        params["weight_hh"] = recurrent_blocks(rng, sizes.hidden, how, GATES)
    forget = params["bias"][FORGET_GATE * sizes.hidden : (FORGET_GATE + 1) * sizes.hidden]
    if how.forget_bias is not None:
        forget[:] = float(how.forget_bias)
    elif how.input_scale is None:
        forget[:] = power_law(sizes.hidden)
    return params


def rate(seen: Observed) -> float:
    """The decay rate over just these T steps without recurrent weights, exact; nan with them.

    The loss r . y_T begins with r; the last step hands r o/N_T to C and -r o C_T/N_T^2 to N, and
    the forget gates of all steps take both back: exp(T <ln f>) of each. As T grows the rate becomes
    that of the slowest unit; before, faster ones fade away too. nan where every unit's numbers left
    the range of the dtype.
    """
    if seen.params["weight_hh"].any():
        return math.nan
    (log_carry,), steps = seen.means, len(seen.x)
    with np.errstate(divide="ignore"):
        exponent = steps * log_carry + np.log(np.hypot(*seen.last.astype(float)))
    found = diagonal_rate(np.broadcast_to(seen.readout, log_carry.shape), exponent, steps)
    return math.nan if found == -math.inf else found


def gates(params: Parameters, x: NDArray, h: NDArray, carried: NDArray) -> tuple[Gates, NDArray]:
    """See Cell; the input gate is an exponential, whose slope is never lost."""
    into, within = sums(params, x, h)
    _, f, z, o = np.split(into + within, GATES, axis=-1)
    return {"forget gate": f, "candidate": z, "output gate": o}, carried


def _product_of_gates(lab: Lab) -> float:
    """Cell and normaliser parts at every lag from 1 on, of one unit with a forget bias from -36,
    where f is e^-36, to 36, where it is one but for its last digit: sums of -ln(1 + exp(-a_f))."""
    worst, of, biases = 0.0, Sizes(hidden=1, inputs=3), np.linspace(-36, 36, 9)
    steps, rng = 400, np.random.default_rng(20)
    drawn = [draw(rng, of, Draw(forget_bias=float(bias))) for bias in biases]
    params = {name: np.stack([one[name] for one in drawn]) for name in drawn[0]}
    x = rng.standard_normal((len(biases), steps, 1, of.inputs))
    weight = params["weight_ih"][:, FORGET_GATE]
    a = np.einsum("mti,mi->mt", x[:, :, 0], weight) + biases[:, np.newaxis]
    expected = np.cumsum(-np.logaddexp(0, -a[:, -2::-1]), axis=1)
    found = lab.attenuation("slstm", params, x, [steps]).parts
    for part in ("cell", "normalizer"):
        curve = found[part][:, 0, 1:]
        worst = max(worst, float(np.abs(curve[:, 1:] - curve[:, :1] - expected).max()))
    return worst


# A step's factor is off by the roundings of its sigmoid and product, and by those of a_f, which
# count 1 - f times: by 1.3e-14 nats at -40. The sums of logarithms come to 16,000 at most.
_TOLERANCE = 400 * 1.3e-14 + 4 * 16_000 * 2.0**-53

CELL = Cell(
    name="slstm",
    options=frozenset({"init", "gain", "forget_bias"}),
    parts=("hidden", "cell", "normalizer"),
    without_adjoint=("stabilizer",),
    from_zero=frozenset({"normalizer"}),
    shapes=shapes,
    sizes=gated_sizes,
    state_shape=state_shape,
    draw=draw,
    forget_gate="forget",
    names_of="Beck et al. 2024",
    inits=(ZEROS, *SCALED),
    gates=gates,
    coefficients=COEFFICIENTS,
    theory=Theory(
        rate,
        means=("carry",),
        each=True,
        of=np.log,
        last=("output_cell", "output_normalizer"),
    ),
    cost=Cost(blocks=GATES, exponentials=6),
    closed_forms=(ClosedForm("slstm, product of forget gates", _TOLERANCE, _product_of_gates),),
)
