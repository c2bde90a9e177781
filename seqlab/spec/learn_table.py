"""The options of training, a row each: a new option is a row here and a field of LearnSpec.

What draws networks is as a recurrent run has it; how many inputs they have is the task's to say.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from seqlab import rules
from seqlab.cells import CELLS
from seqlab.errors import InputError
from seqlab.spec.fields import Spelled, choice, clip_rules, number, whole
from seqlab.spec.option import Option, Table
from seqlab.spec.table import TABLE
from seqlab.tasks import SOLVED, TASKS, find_task
from seqlab.wording import one_of

DEFAULT_OPTIMIZER = "adam"
RATES = {"sgd": 0.01, "rmsprop": 0.003, "adam": 0.003}  # where none is given
SCHEDULES = ("constant", "cosine")
TIMES = "x"  # behind the number of a `norm` rule: in units of the first gradient's norm
_rate = number("a positive, finite number, or a list of them", lambda rate: rate > 0)


def times_of(text: str) -> float | None:
    """C of the rule `norm:Cx`, None of other rules.

    Its threshold is C times the median over networks of the norm of all parameters' gradients
    before the first update. Raises InputError for a C that is no positive finite number.
    """
    name, _, tail = text.strip().partition(":")
    if name != "norm" or not tail.endswith(TIMES):
        return None
    try:
        return rules.parse(f"{name}:{tail.removesuffix(TIMES)}").threshold
    except InputError:
        raise InputError(
            f"clip: {text!r} has no positive, finite factor; such as norm:0.1{TIMES}"
        ) from None


def _clip(name: str, value: Any) -> tuple[str, ...]:
    """As a run has it, and `norm:Cx`."""
    texts = [value] if isinstance(value, str) else value
    if not isinstance(texts, Sequence) or not all(isinstance(text, str) for text in texts):
        return clip_rules(name, texts)  # which refuses it
    found: list[str] = []
    for text in texts:
        times = times_of(text)
        found += [f"{rules.Rule('norm', times)}{TIMES}"] if times else clip_rules(name, text)
    return tuple(dict.fromkeys(found)) or clip_rules(name, texts)


def _rates(name: str, value: Any) -> tuple[float, ...]:
    """One learning rate or several, each once."""
    several = isinstance(value, Sequence) and not isinstance(value, str) and len(value) > 0
    return tuple(dict.fromkeys(_rate(name, rate) for rate in (value if several else (value,))))


def _momentum_is_idle(known: Mapping[str, Any]) -> str | None:
    optimizer = known.get("optimizer", DEFAULT_OPTIMIZER)
    return None if optimizer == "sgd" else f"for optimizer {optimizer}; it is for sgd"


def _eps_is_idle(known: Mapping[str, Any]) -> str | None:
    optimizer = known.get("optimizer", DEFAULT_OPTIMIZER)
    return None if optimizer != "sgd" else "for optimizer sgd; it is for the others"


def _task(name: str, value: Any) -> str:
    return str(find_task(value))


LEARN_TABLE = Table(
    CELLS,
    (
        TABLE["arch"],
        Option(
            "task",
            Spelled(_task, tuple(TASKS)),
            f"{one_of(TASKS)}; teacher:NU, whose memory decays as NU^t.",
            default="latch",
            metavar="NAME",
            label="task",
            axis_rank=1,
            heading_rank=0,
        ),
        replace(
            TABLE["steps"], help="Train on sequences of one length alone.", label="longest length"
        ),
        TABLE["hidden"],
        TABLE["state"],
        replace(TABLE["networks"], help="Networks trained under each rule.", default=8),
        TABLE["seed"],
        TABLE["activation"],
        TABLE["init"],
        TABLE["gain"],
        replace(
            TABLE["input_scale"],
            parse=number("a finite number above 0", lambda scale: scale > 0),
            help="Draw input weights with variance S^2/I and make all biases zero.",
        ),
        replace(
            TABLE["forget_bias"],
            help=f"{TABLE['forget_bias'].help[:-1]}; chrono is for the longest length.",
        ),
        Option(
            "optimizer",
            choice(RATES),
            f"{one_of(RATES)}.",
            default=DEFAULT_OPTIMIZER,
            metavar="NAME",
            label="optimizer",
            axis_rank=2,
            heading_rank=1,
        ),
        Option(
            "lr",
            _rates,
            "Learning rate; repeat it to have the best one chosen for each rule and length, on "
            "other networks than are reported.",
            default_text=", ".join(f"{name} {rate:g}" for name, rate in RATES.items()),
            metavar="RATE",
            read=float,
            many=True,
            label="learning rate",
            axis_rank=2,
            heading_rank=1,
        ),
        Option(
            "momentum",
            number("a number from 0 to under 1", lambda share: 0 <= share < 1),
            "sgd: share of the velocity that an update keeps.",
            default=0.0,
            metavar="SHARE",
            read=float,
            idle=_momentum_is_idle,
            label="momentum",
            axis_rank=2,
            heading_rank=1,
        ),
        Option(
            "eps",
            number("a finite number above 0", lambda eps: eps > 0),
            "adam, rmsprop: added to the root of the mean square.",
            default_text="1e-8",
            metavar="E",
            read=float,
            idle=_eps_is_idle,
            label="eps",
            axis_rank=2,
            heading_rank=1,
        ),
        Option(
            "schedule",
            choice(SCHEDULES),
            f"Of the learning rate over all updates: {one_of(SCHEDULES)}, down to zero.",
            default=SCHEDULES[0],
            metavar="NAME",
            label="schedule",
            axis_rank=2,
            heading_rank=1,
        ),
        Option(
            "updates",
            whole(1),
            "Updates at most; a length ends once all networks have solved it or diverged.",
            default=2000,
            metavar="N",
            read=int,
            label="updates",
            axis_rank=3,
            heading_rank=0,
            modest=2000,
        ),
        Option(
            "sequences",
            whole(1),
            "Sequences of an update, new ones each time.",
            default=16,
            metavar="B",
            read=int,
            label="sequences",
            axis_rank=3,
            heading_rank=0,
            modest=16,
        ),
        Option(
            "solved",
            number("a share of the trivial loss, above 0 and below 1", lambda share: 0 < share < 1),
            "Share of the loss of an answer that ignores its inputs, under which a task is solved.",
            default=SOLVED,
            metavar="SHARE",
            read=float,
            label="share of the trivial loss",
            axis_rank=5,
            heading_rank=1,
        ),
        Option(
            "test_length",
            whole(1),
            "Test trained networks on new sequences of T steps: their loss, and their share of "
            "right answers, past the length that they were trained on.",
            metavar="T",
            read=int,
            label="length of the test",
            axis_rank=4,
            heading_rank=1,
        ),
        Option(
            "trace",
            whole(1),
            "Keep attenuation curves every K updates.",
            metavar="K",
            read=int,
            in_table=False,
        ),
        replace(
            TABLE["clip"],
            parse=Spelled(_clip, rules.BEGINNINGS),
            help=f"{TABLE['clip'].help[:-1]}; norm:C{TIMES} in units of the median norm of the "
            "first gradients.",
            default=("none", "norm:1"),
        ),
        replace(
            TABLE["lengths"],
            help="A:B:N (N lengths from A to B, evenly spaced in log), or a list: 10,20,40. Each "
            "has networks of its own.",
            default_text=None,
        ),
        replace(TABLE["dtype"], default="float32"),
        TABLE["r_min"],
        TABLE["r_max"],
        TABLE["max_phase"],
        TABLE["decay"],
    ),
)
