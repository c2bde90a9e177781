"""Where people log their training, and what goes there: told by what it can do, never imported."""

import inspect
import sys
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from seqlab.report.headline import headlines
from seqlab.report.measured import Measured
from seqlab.spec.fields import whole
from seqlab.wording import refuse

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PREFIX, FIGURE = "seqlab", "figure"
# numbers by name, the step, and the figure, if there is one
Outlet = Callable[[Mapping[str, float], int | None, "Figure | None"], None]


def outlet(target: Any, option: str = "target") -> Outlet:
    """What writes to a run of wandb, a SummaryWriter, or a function of a dictionary and a step.

    Raises InputError, that begins with the option, for anything else.
    """
    if all(callable(getattr(target, name, None)) for name in ("add_scalar", "add_figure")):
        return _to_tensorboard(target)
    if _is_wandb_s(getattr(target, "log", None)):
        return _to_wandb(target)
    if callable(target):
        return _to_function(target)
    raise refuse(
        option,
        target,
        "a function of a dictionary and a step, a run of wandb or a TensorBoard SummaryWriter",
    )


def step_of(step: Any) -> int | None:
    """A step of training, None for none. Raises InputError."""
    return None if step is None else whole(0)("step", step)


def name_of(number: str, *within: str) -> str:
    """`seqlab/rate`, or `seqlab/WITHIN/rate`."""
    return "/".join([PREFIX, *within, number])


def numbers(result: Measured) -> dict[str, float]:
    """A result's rate, horizon and float32 zero by name; of several rules those of each."""
    found, told = headlines(result), {}
    for one in found:
        within = (one.rule,) if len(found) > 1 else ()
        told[name_of("rate", *within)] = one.rate
        told[name_of("horizon", *within)] = one.horizon
        told[name_of("float32_zero", *within)] = one.float32_zero_lag
    return told


def _is_wandb_s(log: Any) -> bool:
    """Whether it is `log` of a run, or of one that is disabled, which takes data and anything: a
    logger of text and a module of mathematics have one too."""
    try:
        return bool({"data", "step"} & inspect.signature(log).parameters.keys())
    except (TypeError, ValueError):
        return False


def _to_tensorboard(writer: Any) -> Outlet:
    def write(told: Mapping[str, float], step: int | None, figure: "Figure | None") -> None:
        for name, number in told.items():
            writer.add_scalar(name, number, step)
        if figure is not None:
            writer.add_figure(name_of(FIGURE), figure, step)

    return write


def _to_wandb(run: Any) -> Outlet:
    def write(told: Mapping[str, float], step: int | None, figure: "Figure | None") -> None:
        # As a picture: wandb makes another figure, by another library, of one that is none.
        picture = getattr(sys.modules.get("wandb"), "Image", lambda drawn: drawn)
        drawn = {} if figure is None else {name_of(FIGURE): picture(figure)}
        run.log({**told, **drawn}, step=step)

    return write


def _to_function(log: Callable[[dict[str, Any], int | None], object]) -> Outlet:
    def write(told: Mapping[str, float], step: int | None, figure: "Figure | None") -> None:
        log({**told, **({} if figure is None else {name_of(FIGURE): figure})}, step)

    return write
