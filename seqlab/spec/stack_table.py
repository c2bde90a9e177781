"""The options of a deep stack, a row each: a new option is a row here and a field of StackSpec.

Where a stack has what a recurrent run has, the field keeps the run's name, and the command that is
for stacks has its own word for it: `steps` are layers, `--depth`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from seqlab.layers.draws import INITS, SCALED, TRANSFORMER_INITS
from seqlab.numbers.spellings import NAMES, spelled
from seqlab.spec.fields import DEFAULT_LENGTHS, Spelled, choice, number, number_or, whole
from seqlab.spec.option import Option, Table
from seqlab.spec.table import DEFAULT_INIT, TABLE, beside, gain_is_idle, number_or_word
from seqlab.wording import one_of, refuse

DEFAULT_ARCH = "mlp"
SQRT = "sqrt"  # alpha: 1/sqrt(depth)
NORMS = ("none", "batch", "layer", "group:G")


@dataclass(frozen=True)
class Options:
    """An architecture through depth, and the options that not all of them have."""

    name: str
    options: frozenset[str]


def _stack(name: str, *options: str) -> Options:
    return Options(name, frozenset(options))


_OF_LAYERS = ("batch", "bias_scale", "norm")
_OF_PLAIN_LAYERS = (*_OF_LAYERS, "inputs", "in_law", "params", "module", "spectrum")
STACKS = {
    stack.name: stack
    for stack in (
        _stack("mlp", *_OF_PLAIN_LAYERS),
        _stack("resnet", *_OF_PLAIN_LAYERS, "place", "order", "alpha"),
        _stack("densenet", *_OF_LAYERS, "readout"),
        _stack("transformer", "tokens", "heads", "place", "alpha", "readout", "spectrum"),
    )
}


def _having(name: str) -> str:
    """The stacks that have an option, as `--help` begins with them."""
    return ", ".join(stack.name for stack in STACKS.values() if name in stack.options)


def _activation(name: str, value: Any) -> str:
    if not isinstance(value, str):
        raise refuse(name, value, one_of(NAMES))
    return spelled(value, name)


def _norm(name: str, value: Any) -> str:
    kind, colon, groups = value.partition(":") if isinstance(value, str) else ("", "", "")
    if kind in ("none", "batch", "layer") and not colon:
        return str(value)
    if kind != "group" or not (groups.isascii() and groups.isdigit() and int(groups) > 0):
        raise refuse(name, value, f"{one_of(NORMS)}, G a whole number from 1 up")
    return f"group:{int(groups)}"


def flag(name: str, value: Any) -> bool | None:
    """True, or None for what is not wanted."""
    if not isinstance(value, bool):
        raise refuse(name, value, "true or false")
    return value or None


def _inputs_are_idle(known: Mapping[str, Any]) -> str | None:
    return "with in_law, whose input has the width" if known.get("in_law") else None


def _place_is_idle(known: Mapping[str, Any]) -> str | None:
    no_norm = known["arch"] == "resnet" and known.get("norm", "none") == "none"
    return "for norm none" if no_norm else None


STACK_TABLE = Table(
    STACKS,
    (
        replace(
            TABLE["arch"],
            parse=choice(STACKS),
            help=f"{one_of(STACKS)}; repeat it to compare them.",
            default_text=DEFAULT_ARCH,
            metavar="NAME",
            label="architecture",
        ),
        replace(
            TABLE["steps"],
            help="Layers, or blocks: the longest lag.",
            metavar="L",
            label="depth (layers)",
            spelled="depth",
        ),
        replace(
            TABLE["hidden"],
            help="Units of a layer; densenet: features that each block adds.",
            metavar="N",
            label="width",
            spelled="width",
        ),
        Option(
            "batch",
            whole(1),
            f"{_having('batch')}: inputs seen together.",
            default=32,
            default_text="32; 1 with --in-law",
            metavar="B",
            read=int,
            label="batch",
            axis_rank=3,
            heading_rank=0,
            modest=32,
        ),
        replace(
            TABLE["inputs"],
            help=f"{_having('inputs')}: features of each input, which a first layer of the same "
            "draw, not counted, brings to the width.",
            default=None,
            default_text="as many as the width, without such a layer",
            idle=_inputs_are_idle,
        ),
        Option(
            "tokens",
            whole(1),
            f"{_having('tokens')}: tokens of the sequence.",
            default=32,
            metavar="T",
            read=int,
            label="tokens",
            axis_rank=3,
            heading_rank=0,
            modest=32,
        ),
        Option(
            "heads",
            whole(1),
            f"{_having('heads')}: heads of the attention; they divide the width.",
            default=4,
            metavar="K",
            read=int,
            label="heads",
            axis_rank=3,
            heading_rank=0,
        ),
        TABLE["networks"],
        TABLE["seed"],
        replace(
            TABLE["activation"],
            parse=Spelled(_activation, tuple(NAMES)),
            help=f"{one_of(NAMES)}; the last three with a number or without: leaky:0.01.",
            default="relu",
        ),
        replace(
            TABLE["init"],
            parse=choice(INITS),
            default_text=None,
            default_of=None,
            help=f"Draw of the weights; {one_of(INITS)} (transformer: "
            f"{one_of(TRANSFORMER_INITS)}).",
        ),
        replace(
            TABLE["gain"],
            help=f"Scale of a draw other than {DEFAULT_INIT}.",
            idle=gain_is_idle(SCALED),
            label="gain",
        ),
        Option(
            "bias_scale",
            number("a finite number from 0 up", lambda scale: scale >= 0),
            f"{_having('bias_scale')}: standard deviation of normal biases.",
            default_text=f"0; init {DEFAULT_INIT}: PyTorch's biases",
            metavar="S",
            read=float,
            idle=beside("params"),
            label="bias scale",
            axis_rank=2,
        ),
        Option(
            "norm",
            Spelled(_norm, tuple(name.removesuffix("G") for name in NORMS)),
            f"{_having('norm')}: normalisation; {one_of(NORMS)}.",
            default="none",
            metavar="NAME",
            label="normalisation",
            axis_rank=1,
        ),
        Option(
            "place",
            choice(("pre", "post")),
            f"{_having('place')}: the norm before the branch or after the sum; pre or post.",
            default="pre",
            metavar="NAME",
            idle=_place_is_idle,
            label="place of the norm",
            axis_rank=2,
        ),
        Option(
            "order",
            choice(("outside", "inside")),
            f"{_having('order')}: outside, h + alpha phi(W h), or inside, h + alpha W phi(h).",
            default="outside",
            metavar="NAME",
            label="order",
            axis_rank=2,
        ),
        Option(
            "alpha",
            number_or(SQRT),
            f"{_having('alpha')}: scale of the branch; {SQRT}: 1/sqrt(L).",
            default=1.0,
            metavar="A",
            read=number_or_word,
            label="scale of the branch",
            axis_rank=1,
        ),
        Option(
            "readout",
            choice(("last", "all")),
            f"{_having('readout')}: what the loss reads, the last block's features (the last "
            "token) or all; last or all.",
            default="all",
            metavar="NAME",
            label="readout",
            axis_rank=2,
        ),
        Option(
            "in_law",
            flag,
            f"{_having('in_law')}: draw what each layer does to one input and one adjoint from "
            "its law, without its weights.",
            read=bool,
            label="in law",
            axis_rank=4,
        ),
        replace(TABLE["clip"], default_text="none and step-norm:1; none with --in-law"),
        replace(
            TABLE["lengths"],
            help="A:B:N (N depths from A to B = L, evenly spaced in log), or a list that ends with "
            "L: 10,20,50.",
            default_text="{1} from min({0}, L) to L; L alone with --in-law or --alpha {2}".format(
                *DEFAULT_LENGTHS, SQRT
            ),
            spelled="depths",
        ),
        replace(
            TABLE["spectrum"],
            help=f"{_having('spectrum')}: measure the K largest Lyapunov exponents.",
        ),
        TABLE["dtype"],
        replace(
            TABLE["params"],
            help=f"{_having('params')}: your own weights of --dtype in the order of the layers, "
            "*weight (n, n) and *bias (n,) as nn.Sequential has them, with a leading axis of "
            "networks or without; the first may be (n, I). A .npz, .safetensors, .pt or .pth.",
        ),
        replace(
            TABLE["module"],
            help="The module of --params, the checkpoint of a whole model, that is meant: "
            "encoder.mlp.",
        ),
    ),
)
