"""Gated DeltaNet: a matrix of K keys by H values that unlearns a key before it writes there again.

    q = unit(silu(W_q x)),  k = unit(silu(W_k x)),  v = silu(W_v x),  unit(a) = a/sqrt(|a|^2 + 1e-6)
    beta = sigmoid(W_b x),  alpha = exp(-exp(A_log) softplus(W_a x + dt_bias))
    S_t = alpha_t S_{t-1} (1 - beta_t k_t k_t^T) + beta_t v_t k_t^T,   y_t = S_t q_t / sqrt K

Source: Yang, Kautz & Hatamizadeh 2024, 'Gated Delta Networks', eq. 10; with alpha = 1 it is the
delta rule of Schlag et al. 2021 in the form of Yang et al. 2024. Names, layouts and draws are those
of one head of flash-linear-attention's GatedDeltaNet, without what stands around the recurrence
there: the short convolutions, the output's norm, gate and projection.

The state's Jacobian depends on the input alone and is the same for each of the H rows of S: the
K x K matrix alpha (1 - beta k k^T), which is alpha across the key and alpha (1 - beta |k|^2) along
it.
"""

import math

import numpy as np
from numpy.typing import NDArray

from seqlab.cells.cell import (
    Cell,
    ClosedForm,
    Draw,
    Lab,
    Observed,
    Parameters,
    Sizes,
    State,
    Theory,
)
from seqlab.cells.draws import delta_bias, scaled_input

LAYERS = ("q_proj", "k_proj", "v_proj", "a_proj", "b_proj")
EPSILON = 1e-6  # of the length of queries and keys (flash-linear-attention, modules/l2norm.py)
LARGEST_RATE = 16.0  # of the uniform draw of exp(A_log)
# A_log of a head whose alpha is one: its exponential is zero in every dtype, and it is a number.
NEVER = -1e4
# Numbers of a step that the whole head shares, as kernels keep them: alpha and beta, ln alpha, the
# slopes of ln alpha and of beta by their layers' outputs, one over the lengths of query and key.
ALPHA, BETA, LOG_ALPHA, ALPHA_SLOPE, BETA_SLOPE, PER_QUERY, PER_KEY, SHARED = range(8)


def silu(z, gate, shut):
    """silu(z) and its slope, from the pair sigmoid(z), sigmoid(-z)."""
    value = z * gate
    return value, gate + value * shut


def state(before, alpha, key, error):
    """One entry of S_t; `key` = beta k of its column, `error` = v - alpha S_{t-1} k of its row."""
    return alpha * before + key * error


def adjoint(g, alpha, key, along):
    """One entry of dL/dS_{t-1} from g = dL/dS_t, `along` = (dL/dS_t k) of its row."""
    return alpha * (g - key * along)


def layers(params: Parameters) -> tuple[NDArray, NDArray]:
    """The layers' weights of an ensemble, one under the other (M, W, I), and biases (M, W), which
    are dt_bias."""
    weight = np.concatenate([params[f"{layer}_weight"] for layer in LAYERS], axis=1)
    bias = np.zeros_like(weight[:, :, 0])
    bias[:, -2] = params["dt_bias"][:, 0]
    return weight, bias


def add_layers(out: Parameters, weight: NDArray, bias: NDArray, keys: int) -> None:
    """Add gradients laid out as `layers` has parameters, but with one row more, in whose bias is
    A_log's, to `out`."""
    of = Sizes(weight.shape[1] - 2 * keys - 3, weight.shape[2], keys)
    first = 0
    for layer, count in rows(of).items():
        out[f"{layer}_weight"] += weight[:, first : first + count]
        first += count
    out["dt_bias"] += bias[:, -3:-2]
    out["A_log"] += bias[:, -1:]


def faintest(alpha: float, beta: float, key: NDArray) -> float:
    """The smaller factor of a step, alpha (1 - beta |k|^2) along the key (K,), as the key's dtype
    has it: zero where of the difference nothing but rounding is left."""
    along = 1.0 - float(beta) * float(np.square(key).sum())
    return float(alpha) * along if along > len(key) * np.finfo(key.dtype).eps else 0.0


def rows(of: Sizes) -> dict[str, int]:
    """Outputs of each linear layer of the input, in the order of the kernels."""
    return dict(zip(LAYERS, (of.state, of.state, of.hidden, 1, 1), strict=True))


def width(of: Sizes) -> int:
    """Outputs of all layers of the input, W."""
    return sum(rows(of).values())


def shapes(of: Sizes) -> dict[str, tuple[int, ...]]:
    """Parameter shapes of one network."""
    weights = {f"{layer}_weight": (count, of.inputs) for layer, count in rows(of).items()}
    return {**weights, "A_log": (1,), "dt_bias": (1,)}


def sizes(params: Parameters) -> Sizes:
    """H, I and K from one network's parameters."""
    hidden, inputs = params["v_proj_weight"].shape[-2:]
    return Sizes(hidden, inputs, params["k_proj_weight"].shape[-2])


def state_shape(of: Sizes) -> tuple[int, int]:
    """The state of one sequence, (K, H): units innermost, as the kernels keep it."""
    return (of.state, of.hidden)


def pack(parts: State) -> NDArray:
    """The state S (..., H, K) -> (..., K, H)."""
    return parts[0].swapaxes(-1, -2)


def unpack(state: NDArray) -> State:
    """(..., K, H) -> the state S (..., H, K)."""
    return (state.swapaxes(-1, -2),)


def draw(rng: np.random.Generator, of: Sizes, how: Draw) -> Parameters:
    """Draw one head as flash-linear-attention's layer does: linear layers U(+-1/sqrt I) without
    biases, exp(A_log) uniform up to 16, dt_bias softplus^-1 of a log-uniform step in [0.001, 0.1].

    `decay` none makes alpha one. `input_scale` replaces the weights.
    """
    bound = 1.0 / math.sqrt(of.inputs)
    names = [f"{layer}_weight" for layer in LAYERS]
    params = {name: rng.uniform(-bound, bound, shapes(of)[name]) for name in names}
    params["A_log"] = np.log(LARGEST_RATE * (1.0 - rng.random(1)))
    params["dt_bias"] = delta_bias(rng, 1)
    if how.decay == "none":
        params["A_log"][:] = NEVER
    if how.input_scale is not None:
        for name in names:
            params[name] = scaled_input(rng, params[name].shape, how.input_scale)
    return params


def unit(raw: NDArray) -> NDArray:
    """Queries or keys (..., K) of their layer's outputs."""
    value = raw / (1.0 + np.exp(-raw))
    return value / np.sqrt(np.square(value).sum(axis=-1, keepdims=True) + EPSILON)


def log_alpha(params: Parameters, x: NDArray) -> NDArray:
    """ln alpha (...) of x (..., I)."""
    raw = (x @ params["a_proj_weight"].T)[..., 0] + params["dt_bias"]
    return -np.exp(params["A_log"]) * np.logaddexp(0, raw)


def rate(seen: Observed) -> float:
    """The decay rate over just these T steps, exact, from K numbers in place of H K.

    The loss r . y_T begins with r q_T^T / sqrt K, and every row of S goes by the same matrices: the
    adjoint stays r times one vector. alpha is a number, the product of 1 - beta k k^T is taken.

    Of keys that lean to no side the mean of the logs is known in closed form, whatever q is: c =
    cos^2 of the angle to a key has the law Beta(1/2, (K-1)/2), and a step leaves ln alpha +
    E ln(1 - beta (2 - beta) c)/2, which is ln(1 - beta) for K = 1 and ln(1 - beta/2) for K = 2;
    1 - beta (2 - beta)/K of the square in the mean. Keys of silu lean to one side, and those of few
    inputs to few directions: what lies across them stays, so that a long gradient fades less.
    """
    p = {name: array.astype(float) for name, array in seen.params.items()}
    x, steps = seen.x.astype(float), len(seen.x)
    key, last = unit(x @ p["k_proj_weight"].T), unit(x[-1] @ p["q_proj_weight"].T)
    beta = 1.0 / (1.0 + np.exp(-(x @ p["b_proj_weight"].T)))
    kept = log_alpha(p, x).sum(axis=0) + [
        _log_kept(q, beta[:, b] * key[:, b], key[:, b]) for b, q in enumerate(last)
    ]
    with np.errstate(divide="ignore"):
        first = 2 * np.log(np.linalg.norm(last, axis=1))
    ends = np.logaddexp.reduce(first + 2 * kept) - np.logaddexp.reduce(first)
    return float(ends) / 2 / steps


def _log_kept(q: NDArray, written: NDArray, key: NDArray) -> float:
    """ln |D_1 ... D_T q|/|q| with D_t = 1 - written_t key_t^T, both (T, K)."""
    log, left = 0.0, q / np.linalg.norm(q)
    for t in reversed(range(len(key))):
        left = left - written[t] * (key[t] @ left)
        if t % 8 == 0:  # a step leaves a rounding at least, 1e-17
            size = np.linalg.norm(left)
            log, left = log + float(np.log(size)), left / size
    return log


def _from_loss(lab: Lab, params: Parameters, x: NDArray) -> tuple[NDArray, NDArray]:
    """dL/dS at the first state and, r q_T^T / sqrt K, at the last, both (H, K), of x (T, 1, I)."""
    (hidden, _), keys = params["v_proj_weight"].shape, len(params["k_proj_weight"])
    loss = np.zeros((len(x), 1, hidden))
    loss[-1] = np.linspace(0.5, 1.5, hidden)
    first = lab.backward("deltanet", params, x, np.ones((1, hidden, keys)), loss).initial[0]
    return first, np.outer(loss[-1], unit(x[-1, 0] @ params["q_proj_weight"].T)) / math.sqrt(keys)


def _log_along(key: NDArray, b: NDArray) -> NDArray:
    """ln(1 - beta |k|^2), beta = sigmoid(b), of keys (.., K) before their length is divided out."""
    short = EPSILON / (np.square(key).sum(axis=-1) + EPSILON)  # 1 - |k|^2
    return np.log1p(short * np.exp(b)) - np.logaddexp(0, b)


def _keys_in_turn(lab: Lab) -> float:
    """Each of K orthogonal keys at every K-th step: every entry of S_0 has its own product of alpha
    and, where its key comes, of 1 - beta |k|^2, which is from 0.99 down to 0.007."""
    of, turns = Sizes(hidden=5, inputs=6, state=6), 10
    params = draw(np.random.default_rng(20), of, Draw())
    params["k_proj_weight"], params["A_log"][:] = 3.0 * np.eye(6), -3.0
    params["b_proj_weight"][0] = np.linspace(-5.0, 5.0, 6)
    x = np.tile(np.eye(6), (turns, 1))[:, np.newaxis]
    got, start = _from_loss(lab, params, x)
    along = _log_along(
        np.diag(np.full(6, 3.0 / (1.0 + math.exp(-3.0)))), params["b_proj_weight"][0]
    )
    expected = np.log(np.abs(start)) + log_alpha(params, x).sum() + turns * along
    return float(np.abs(np.log(np.abs(got)) - expected).max())


def _one_key(lab: Lab) -> float:
    """One key at all steps: across it S_0 gets the product of alpha, along it that of
    1 - beta |k|^2 too. beta is zero to the last digit, then anything, then one to the last."""
    rng, of, steps = np.random.default_rng(20), Sizes(hidden=5, inputs=4, state=6), 60
    params = draw(rng, of, Draw())
    for column, layer in enumerate(("k_proj", "b_proj", "a_proj")):
        params[f"{layer}_weight"] *= np.arange(4) == column
    params["b_proj_weight"][0, 1], params["A_log"][:] = 1.0, -3.0
    x = rng.standard_normal((steps, 1, of.inputs))
    x[..., 0] = 4.0
    x[:20, 0, 1], x[40:, 0, 1] = -800.0, 40.0
    got, start = _from_loss(lab, params, x)
    raw = 4.0 * params["k_proj_weight"][:, 0]
    key = raw / (1.0 + np.exp(-raw))
    along = _log_along(key, x[:, 0, 1]).sum()
    part = np.outer(start @ key, key) / np.square(key).sum()
    expected = np.exp(log_alpha(params, x).sum()) * (start + np.expm1(along) * part)
    return float(np.abs(np.log(got / expected)).max())


# A step's product with 1 - beta k k^T is off by some 8 roundings of what it was, and its alpha by
# 4; of keys in turn that shows in what is left of an entry, a 150th ten times over.
_IN_TURN = 60 * 12 * 2.0**-53 + 10 * 150 * 8 * 2.0**-53
# Of one key it shows in entries of what lies across it, here no smaller than a 20th of the whole.
_ONE_KEY = 60 * (20 * 8 + 4) * 2.0**-53

CELL = Cell(
    name="deltanet",
    options=frozenset({"state", "decay"}),
    parts=("state",),
    shapes=shapes,
    sizes=sizes,
    state_shape=state_shape,
    pack=pack,
    unpack=unpack,
    draw=draw,
    names_of="flash-linear-attention",
    silent_drive=False,
    recurrent="k_proj_weight",  # a step keeps all but what its key finds, with decay and without
    theory=Theory(rate),
    closed_forms=(
        ClosedForm("deltanet, orthogonal keys in turn", _IN_TURN, _keys_in_turn),
        ClosedForm("deltanet, one key", _ONE_KEY, _one_key),
    ),
)
