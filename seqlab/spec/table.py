"""The options of a recurrent run, a row each: a new option is a row here and a field of RunSpec."""

import math
from collections.abc import Callable, Collection, Mapping
from typing import Any

from seqlab import rules
from seqlab.cells import ACTIVATIONS, CELLS, DECAYS, INITS, SCALED, Draw
from seqlab.spec.arrays import named_arrays, one_array
from seqlab.spec.fields import (
    DEFAULT_LENGTHS,
    Spelled,
    choice,
    clip_rules,
    lengths,
    number,
    number_or,
    whole,
)
from seqlab.spec.option import Option, Table
from seqlab.wording import one_of, refuse

_DRIVES = {"white": "white (noise)", "zeros": "zeros"}  # as `--help` calls them
_DTYPES = ("float64", "float32")
DEFAULT_INIT = "pytorch"

Idle = Callable[[Mapping[str, Any]], str | None]  # see Option


def _module(name: str, value: Any) -> str:
    """The path of a module within a model, as attributes: `encoder.rnn`."""
    if not (isinstance(value, str) and (path := value.strip().removesuffix("."))):
        raise refuse(name, value, "the name of a module, such as encoder.rnn")
    return path


def number_or_word(word: str) -> float | str:
    try:
        return float(word)
    except ValueError:
        return word


def beside(file: str) -> Idle:
    """Idle where one's own arrays take its place."""
    are = "are" if file == "params" else "is"
    return lambda known: f"beside {file}, which {are} not drawn" if file in known else None


def _init_of(arch: str) -> str | None:
    """The draw of a cell's recurrent weights where none is asked for."""
    return next(iter(CELLS[arch].inits), None)


def gain_is_idle(
    scaled: Collection[str], init_of: Callable[[str], str | None] = lambda arch: DEFAULT_INIT
) -> Idle:
    """Idle beside all draws but these: the others have a scale of their own."""

    def why(known: Mapping[str, Any]) -> str | None:
        if reason := beside("params")(known):
            return reason
        if (init := known.get("init", init_of(known["arch"]))) not in scaled:
            return f"for init {init}; it is for init {one_of(scaled)}"
        return None

    return why


def _module_is_idle(known: Mapping[str, Any]) -> str | None:
    return None if "params" in known else "without params, of whose file it is a part"


def _having(name: str) -> str:
    """The cells that have an option, as `--help` begins with them."""
    return ", ".join(cell.name for cell in CELLS.values() if name in cell.options)


_FORGET_BIASES = "; ".join(
    f"{cell.name}: the {cell.forget_gate} gate's bias{', or chrono' if cell.chrono else ''}"
    for cell in CELLS.values()
    if "forget_bias" in cell.options
)
_NEEDING_A_DRIVE = ", ".join(cell.name for cell in CELLS.values() if not cell.silent_drive)
_NAMED_OTHERWISE = ", ".join(
    f"{cell.name}: {cell.names_of}'s" for cell in CELLS.values() if cell.names_of != "PyTorch"
)

_OWN_INITS = "; ".join(
    f"{cell.name}: {cell.inits[0]}"
    for cell in CELLS.values()
    if cell.inits and cell.inits[0] != DEFAULT_INIT
)

TABLE = Table(
    CELLS,
    (
        Option(
            "arch",
            choice(CELLS),
            f"{one_of(CELLS)}; repeat it to compare cells.",
            metavar="CELL",
            many=True,
            label="cell",
            axis_rank=0,
        ),
        Option(
            "steps",
            whole(1),
            "Steps of the sequence: the longest lag.",
            metavar="T",
            read=int,
            label="steps",
            axis_rank=3,
            heading_rank=0,
            modest=1000,
        ),
        Option(
            "hidden",
            whole(1),
            "Units.",
            default=64,
            metavar="H",
            read=int,
            label="hidden units",
            axis_rank=3,
            heading_rank=0,
            modest=64,
        ),
        Option(
            "inputs",
            whole(1),
            "Input features.",
            default=16,
            metavar="I",
            read=int,
            label="input features",
            axis_rank=3,
            heading_rank=0,
            modest=16,
        ),
        Option(
            "state",
            whole(1),
            f"{_having('state')}: states per channel, or entries of a key.",
            default=16,
            metavar="N",
            read=int,
            label="states per channel",
            axis_rank=3,
            heading_rank=0,
            modest=16,
        ),
        Option(
            "networks",
            whole(1),
            "Networks drawn.",
            default=16,
            metavar="M",
            read=int,
            label="networks",
            axis_rank=5,
            heading_rank=0,
            modest=16,
        ),
        Option(
            "seed",
            whole(0, 2**128 - 1),
            "Seed of every random number.",
            default=0,
            read=int,
            label="seed",
            axis_rank=5,
            heading_rank=0,
        ),
        Option(
            "activation",
            choice(ACTIVATIONS),
            f"{_having('activation')}: {one_of(ACTIVATIONS)}.",
            default="tanh",
            metavar="NAME",
            label="activation",
            axis_rank=2,
        ),
        Option(
            "init",
            choice(INITS),
            f"{_having('init')}: draw of the recurrent weights (keras: of all parameters); "
            f"{one_of(INITS)}.",
            default=DEFAULT_INIT,
            default_text=f"{DEFAULT_INIT}; {_OWN_INITS}",
            default_of=_init_of,
            metavar="NAME",
            idle=beside("params"),
            label="initialisation",
            axis_rank=1,
        ),
        Option(
            "gain",
            number("a positive, finite number", lambda gain: gain > 0),
            f"{_having('gain')}: scale of the draws {one_of(SCALED)}.",
            default=1.0,
            read=float,
            idle=gain_is_idle(SCALED, _init_of),
            label="recurrent gain",
            axis_rank=1,
            searched=(0.1, 10.0),
        ),
        Option(
            "input_scale",
            number("a finite number from 0 up", lambda scale: scale >= 0),
            "Draw input weights with variance S^2/I and make all biases zero; 0 removes the input "
            f"(not for {_NEEDING_A_DRIVE}).",
            default_text="PyTorch's weights and biases; init keras: Keras's",
            metavar="S",
            read=float,
            idle=beside("params"),
            label="input scale",
            axis_rank=2,
            searched=(0.01, 100.0),
        ),
        Option(
            "drive",
            choice(_DRIVES),
            f"Input sequence: {one_of(_DRIVES.values())} (not for {_NEEDING_A_DRIVE}).",
            default="white",
            metavar="NAME",
            idle=beside("input"),
            label="drive",
            axis_rank=2,
            heading_rank=2,
        ),
        Option(
            "forget_bias",
            number_or("chrono"),
            f"{_FORGET_BIASES}.",
            default_text="the cell's own; init keras: Keras's",
            metavar="B",
            read=number_or_word,
            idle=beside("params"),
            label="forget bias",
            axis_rank=1,
            searched=(-5.0, 15.0),
        ),
        Option(
            "clip",
            Spelled(clip_rules, rules.BEGINNINGS),
            f"{one_of(rules.SPELLINGS.split(', '))}; repeat it to compare rules.",
            default=("none", "step-norm:1"),
            metavar="RULE",
            many=True,
            label="clip rule",
            axis_rank=2,
            in_table=False,
        ),
        Option(
            "lengths",
            lengths,
            "A:B:N (N lengths from A to B = T, evenly spaced in log), or a list that ends with T: "
            "10,100,1000.",
            default_text="{1} from min({0}, T) to T".format(*DEFAULT_LENGTHS),
            metavar="LIST",
            in_table=False,
        ),
        Option(
            "spectrum",
            whole(1),
            "Measure the K largest Lyapunov exponents.",
            metavar="K",
            read=int,
            in_table=False,
            modest=1,
        ),
        Option(
            "dtype",
            choice(_DTYPES),
            f"{one_of(_DTYPES)}.",
            default="float64",
            metavar="NAME",
            label="dtype",
            axis_rank=4,
            heading_rank=1,
        ),
        Option(
            "params",
            named_arrays,
            f"Your own weights of --dtype under PyTorch's names ({_NAMED_OTHERWISE}), with a "
            "leading axis of networks or without: a .npz, .safetensors, .pt or .pth.",
            metavar="W.npz",
            label="weights",
            axis_rank=3,
            in_curves=False,
            is_file=True,
        ),
        Option(
            "module",
            _module,
            "The module of --params, the checkpoint of a whole model, that is meant: encoder.rnn.",
            metavar="PREFIX",
            idle=_module_is_idle,
            label="module",
            axis_rank=3,
            in_curves=False,
        ),
        Option(
            "input",
            one_array,
            "Your own sequence of --dtype, (T, B, I) or (M, T, B, I).",
            metavar="X.npy",
            label="input",
            axis_rank=3,
            in_curves=False,
            is_file=True,
        ),
        Option(
            "truncation",
            number("a cosine above 0 and below 1", lambda cosine: 0 < cosine < 1),
            "Keep what each lag gives to the parameters' gradient too, and find the smallest K at "
            "which truncate:K keeps a cosine of C with the whole.",
            metavar="C",
            read=float,
            in_table=False,
        ),
        Option(
            "layers",
            whole(1),
            "Layers of the cell, each fed by the outputs of the one below.",
            default=1,
            metavar="L",
            read=int,
            label="layers",
            axis_rank=3,
            heading_rank=0,
            modest=1,
            neutral=1,
        ),
        Option(
            "r_min",
            number("a number from 0 to under 1", lambda size: 0 <= size < 1),
            f"{_having('r_min')}: smallest |lambda| drawn.",
            default=Draw.r_min,
            metavar="R",
            read=float,
            idle=beside("params"),
            label="min |lambda|",
            axis_rank=1,
            searched=(0.0, 0.9999),
        ),
        Option(
            "r_max",
            number("a number above 0, up to 1", lambda size: 0 < size <= 1),
            f"{_having('r_max')}: largest |lambda| drawn.",
            default=Draw.r_max,
            metavar="R",
            read=float,
            idle=beside("params"),
            label="max |lambda|",
            axis_rank=1,
            searched=(0.5, 1.0),
        ),
        Option(
            "max_phase",
            number("a number above 0, up to 2 pi", lambda phase: 0 < phase <= 2 * math.pi),
            f"{_having('max_phase')}: largest phase of lambda drawn, in radians.",
            default=Draw.max_phase,
            metavar="PHI",
            read=float,
            idle=beside("params"),
            label="max phase (rad)",
            axis_rank=1,
        ),
        Option(
            "decay",
            choice(DECAYS),
            f"{_having('decay')}: what a step forgets of all keys; {one_of(DECAYS)} (alpha = 1).",
            default=DECAYS[0],
            metavar="NAME",
            idle=beside("params"),
            label="decay",
            axis_rank=1,
        ),
    ),
)
