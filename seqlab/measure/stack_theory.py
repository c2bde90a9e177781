"""What theory says of a spec of a stack: its numbers, put before the closed forms."""

import math
from functools import lru_cache

from seqlab.layers.draws import Draw, Moments, moments
from seqlab.layers.parts import Linear
from seqlab.layers.stack import Stack
from seqlab.numbers.activations import find_activation, mean_square
from seqlab.numbers.depth import Blocks
from seqlab.numbers.stack_theory import Prediction, Wide, predict
from seqlab.spec.stack import StackSpec

RARE = 1e-9  # probabilities that nobody will meet
_LAWS = {"pytorch": "uniform", "xavier": "uniform", "orthogonal": "orthogonal", None: "given"}


def predicted_rate(spec: StackSpec) -> float:
    """The decay rate of a spec's networks, nat a layer; nan where nothing is known."""
    return prediction(spec).total / spec.steps


def remarks(spec: StackSpec) -> list[str]:
    """What its table says of the theory: what was summed, what is missing, the exact law."""
    found = prediction(spec)
    said = [text for text in (found.law, found.why) if text]
    lines = [f"theory: {'; '.join(said)}"] if said else []
    if (law := found.exact) is not None:
        nats = f"{law.mean:.3f} nat, standard deviation {math.sqrt(law.variance):.3f}"
        zero = f"; exactly zero with probability {law.zero:.3g}" if law.zero > RARE else ""
        lines.append(f"exact law of the whole depth at this width: mean {nats}{zero}")
    return lines


@lru_cache(maxsize=64)
def prediction(spec: StackSpec) -> Prediction:
    """What is known of a spec's networks, or why nothing is."""
    return predict(wide(spec))


def wide(spec: StackSpec) -> Wide:
    """A spec as theory sees it."""
    stack = spec.stack
    found = Wide(
        spec.arch,
        spec.activation,
        spec.steps,
        spec.hidden,
        weights=_LAWS.get(spec.init, "normal"),
        rows=stack.rows,
        norm=stack.norm,
        place=stack.place,
        outside=stack.outside,
        alpha=stack.alpha,
        all_features=spec.readout == "all",
    )
    if spec.init is None:  # one's own weights
        return found
    how = Draw(spec.init, spec.gain, spec.bias_scale)
    if spec.arch == "transformer":
        blocks, logits = _attention(stack, how)
        return found._replace(blocks=blocks, logits=logits)
    each = [moments(stack.maps(layer)[0], how) for layer in range(stack.depth)]
    known = found._replace(sw2=[one.sw2 for one in each], sb2=[one.sb2 for one in each])
    if spec.inputs is None:
        return known
    return known._replace(square=_behind(stack, moments(Linear(spec.hidden, spec.inputs), how)))


def _behind(stack: Stack, first: Moments) -> float:
    """The mean square behind the first layer, of inputs of mean square one."""
    variance = first.sw2 + first.sb2
    if stack.arch != "mlp":
        return variance
    return mean_square(find_activation(stack.activation), variance if stack.norm == "none" else 1)


def _attention(stack: Stack, how: Draw) -> tuple[Blocks, float]:
    """A Transformer's variances, alpha among them, and that of its logits at tokens of mean square
    one; see `seqlab.layers.draws` for the laws of its maps."""
    maps, alpha2 = stack.maps(0), stack.alpha**2
    if how.init == "xavier":
        gain2 = 1.0 if how.gain is None else how.gain**2
        own = [gain2 * 2 * one.inputs / (one.inputs + one.outputs) for one in maps]
        own[0] = gain2  # queries, keys and values each by themselves
        biases = [0.0, 0.0]
    else:
        own = [2 * maps[0].inputs / (maps[0].inputs + maps[0].outputs)] + [1 / 3] * 3
        biases = [1 / (3 * one.inputs) for one in maps[2:]]
    blocks = Blocks(
        attention=alpha2 * own[0] * own[1],
        inner=own[2],
        outer=alpha2 * own[3],
        inner_bias=biases[0],
        outer_bias=alpha2 * biases[1],
    )
    return blocks, own[0] ** 2
