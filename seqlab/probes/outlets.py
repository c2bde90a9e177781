"""A network watched while it is trained: a few numbers now and then, and one figure at the end."""

import inspect
import math
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from os import PathLike
from pathlib import Path
from time import perf_counter
from typing import Any, NamedTuple, Self

import numpy as np

from seqlab import rules
from seqlab.errors import InputError, Note
from seqlab.numbers.rules_of_thumb import Line
from seqlab.numbers.training_checklist import check_training
from seqlab.probes.adapters import taken_apart
from seqlab.probes.callables import modules_of, name_of
from seqlab.probes.first_updates import FirstUpdates
from seqlab.probes.probe import probe
from seqlab.probes.states import Tensor, each, is_tensor
from seqlab.report.headline import headlines
from seqlab.rules import Acts, Rule
from seqlab.spec.fields import whole
from seqlab.study import files
from seqlab.study.attenuation import Attenuation
from seqlab.study.outlets import name_of as name_of_number
from seqlab.study.outlets import outlet
from seqlab.wording import did_you_mean, refuse, taken

Log = Callable[[dict[str, float], int], object]
MOST_CURVES = 8  # of a figure
# What `probe` takes and a watch has of its own, or has no use for.
_OWN = ("net", "x", "clip", "networks", "reset", "progress")


class Seen(NamedTuple):
    """One probe of a network in training, after `step` updates.

    `rate` in nats a step of the chain, `horizon` in steps of it, inf where the curve stays above
    1e-3; `clipped` a share, nan where there is no rule, or for gradients no step since the last
    probe. Where a probe failed its numbers are nan and `attenuation` is None. `seconds` is what it
    took.
    """

    step: int
    rate: float
    horizon: float
    clipped: float
    seconds: float
    attenuation: Attenuation | None


class Watch:
    """How far back the gradient reaches in a network that is being trained.

        with seqlab.Watch(net, x, interval=100, clip="norm:1", figure="reach.pdf") as watch:
            for step, batch in enumerate(batches):
                loss(net, batch).backward()
                watch.on_step(step)  # before clipping and before the optimiser's step
                torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
                optimiser.step()
                optimiser.zero_grad()

    The first call of `on_step`, and then every `interval`-th, probes the network as it is then, on
    x, and calls `log(numbers, step)`: `wandb.log` and `mlflow.log_metrics` do as they are; or `log`
    is a run of wandb, or a TensorBoard SummaryWriter. The numbers are as
    follows; with a `name` among the options they are `seqlab/NAME/rate` and so on.

    - `seqlab/rate`, of the longest length: nats a step, below zero where gradients vanish;
    - `seqlab/horizon`: the first lag at which the gradient is below 1e-3 of its norm at lag 0; inf
      where it never is within the longest length, nan where that is not known;
    - `seqlab/clipped`, where there is a rule: of `norm:c` and `value:c`, the share of training
      steps since the last numbers at which it acts on the gradients, as `clip_grad_norm_` and
      `clip_grad_value_` do; of a rule inside the chain, the share of the chain's steps at which it
      acted in this probe.

    With `check`, a number of updates, `checks` is the checklist of so many first ones, 50 by most
    advice: the gradient's norm by parameter, and the norm of each matrix's update over its own.
    That takes a copy of the parameters meanwhile, and their norms at each of these steps.

    `options` are those of `seqlab.probe`, such as `lengths`, `wrt`, `loss` and `every`, which makes
    probes cheaper. `history` has all numbers and curves, 8 bytes for a lag and part. `finish`,
    which a `with` block calls, probes once more and draws `figure`: curves of the first probe, the
    last and some between.

    A network is probed in evaluation mode: without dropout, with what batch norm has kept, and in
    the dtype of its parameters, whatever autocast makes of them in training. Training goes on with
    the same bits as without a watch. x and a first state are copied now, and go to the device on
    which the network is. What it costs is `seconds` in each entry of `history`, and together in the
    watch's own repr; a rule for gradients costs their norm at every step.

    Raises InputError, before training, for what `seqlab.probe` refuses; that is tried out here. A
    probe that fails later, as of weights that are no numbers any more, is a row of nan, and is said
    in one warning.
    """

    def __init__(
        self,
        net: Any,
        x: Tensor,
        *,
        interval: int = 100,
        clip: str | None = None,
        log: Log | None = None,
        figure: str | PathLike[str] | None = None,
        check: int = 0,
        **options: Any,
    ) -> None:
        _check_options(net, options)
        self._first = FirstUpdates(whole(0)("check", check))
        self._interval = whole(1)("interval", interval)
        self._rule = rules.parse("none" if clip is None else clip)
        self._figure = None if figure is None else _checked(figure)
        self._net, self._log = net, None if log is None else outlet(log, "log")
        self._x = x.detach().clone() if is_tensor(x) else x
        self._options = options
        if (state := options.get("state")) is not None:
            options["state"] = each(taken_apart(state), lambda tensor: tensor.detach().clone())
        self._within = tuple(filter(None, [options.get("name")]))
        self.history: list[Seen] = []
        self._calls, self._step = 0, 0
        self._stepped = False  # whether the network may have changed since the last probe
        self._counted = 0  # calls since the last numbers
        self._acted: Any = 0  # of these, a tensor: to read it here would wait for the device
        self._noted = False
        self._began = self._last = 0.0
        _numbers(self._probe())

    def on_step(self, step: int | None = None, parameters: Iterable[Tensor] | None = None) -> None:
        """To be called once a step of training, between `loss.backward()` and clipping; with a
        scaler of gradients, after it has unscaled them.

        `step` counts the updates before; left out, the calls. `parameters` are those that are
        clipped, where they are not all of the network's, and of no other. Raises InputError for a
        step that is no whole number.
        """
        self._step = self._calls if step is None else whole(0)("step", step)
        self._began = self._began or perf_counter()
        self._count(parameters)
        self._first.before_update(modules_of(self._net))
        if self._calls % self._interval == 0:
            self._log_probe(self._step)
        self._calls += 1
        self._stepped = True
        self._last = perf_counter()

    def finish(self, step: int | None = None) -> None:
        """Probe the network as it is now, after `step` updates, one more than at the last step, and
        draw the figure. Without a step before, nothing."""
        self._first.after_update(modules_of(self._net))
        if self._stepped:
            self._stepped = False
            self._log_probe(self._step + 1 if step is None else whole(0)("step", step))
            self._last = perf_counter()
        if self._figure is not None and self.history:
            self._draw(self._figure)

    def checks(self) -> list[Line]:
        """The checklist of the updates so far, of the first `check` at most, which prints as a
        table; see `seqlab.numbers.training_checklist`. No lines of what was not seen."""
        from seqlab.report.checklist import Checklist

        return Checklist(check_training(self._first.seen()))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        self.finish()

    def __repr__(self) -> str:
        said = f"Watch of {name_of(self._net)}: {len(self.history)} probes"
        if not self.history:
            return said
        spent = sum(seen.seconds for seen in self.history)
        each_one = f"{taken(spent / len(self.history))} each"
        return f"{said}, {each_one}, {spent / (self._last - self._began):.1%} of the time"

    def _count(self, parameters: Iterable[Tensor] | None) -> None:
        """Whether the rule acts on the gradients that there are."""
        self._counted += 1
        if self._rule.acts is not Acts.AFTER:
            return
        if parameters is None:
            parameters = [p for module in modules_of(self._net)[:1] for p in module.parameters()]
        gradients = [p.grad.detach() for p in parameters if p.grad is not None]
        if gradients:
            self._acted = self._acted + _acts(self._rule, gradients)
        else:
            self._note("clip", "no parameter has a gradient; on_step belongs after loss.backward()")

    def _log_probe(self, step: int) -> None:
        """Probe, keep and log."""
        start, found, rate, horizon, clipped = perf_counter(), None, math.nan, math.nan, math.nan
        try:
            attenuation = replace(self._probe(), updates=step)
            rate, horizon, clipped = _numbers(attenuation)
            found = attenuation
        except Exception as error:  # whatever numbers that are none lead to: training goes on
            self._note(f"step {step}", f"the probe failed and is logged as nan: {error}")
        if self._rule.acts is Acts.AFTER and self._counted:
            clipped = float(self._acted) / self._counted
        told = {"rate": rate, "horizon": horizon}
        if self._rule.in_chain or (self._rule.acts is Acts.AFTER and self._counted):
            told["clipped"] = clipped
        self._acted, self._counted = 0, 0
        self.history.append(Seen(step, rate, horizon, clipped, perf_counter() - start, found))
        if self._log is not None:
            numbers = {name_of_number(name, *self._within): n for name, n in told.items()}
            self._log(numbers, step, None)

    def _probe(self) -> Attenuation:
        modules = modules_of(self._net)
        parameters = (p for module in modules for p in module.parameters(recurse=False))
        place = next(parameters, self._x)

        def placed(tensor: Tensor) -> Tensor:
            return tensor.to(place.device) if is_tensor(place) else tensor

        given = dict(self._options)
        if given.get("state") is not None:
            given["state"] = each(given["state"], placed)
        x = placed(self._x) if is_tensor(self._x) else self._x
        with _evaluating(modules), _no_autocast(x):
            return probe(self._net, x, clip=str(self._rule), **given)

    def _draw(self, path: Path) -> None:
        from seqlab.figures import Request, plot

        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            plot(_spread(self.history), path, Request("curves", y="updates"))
        except (InputError, OSError) as error:
            self._note("figure", f"it is not drawn: {error}")

    def _note(self, where: str, said: str) -> None:
        """Say it, if it is the first thing to be said."""
        if not self._noted:
            self._noted = True
            warnings.warn(f"seqlab.Watch, {where}: {said}", Note, stacklevel=4)


def _check_options(net: Any, options: Mapping[str, Any]) -> None:
    known = [name for name in inspect.signature(probe).parameters if name not in _OWN]
    for name, value in options.items():
        if name in _OWN:
            raise refuse(name, value, "one network is watched, without it")
        if name not in known:
            raise InputError(f"{name}: no such option{did_you_mean(name, known)}")
    if isinstance(net, list | tuple):
        raise refuse("net", f"{len(net)} networks", "one network is watched")


def _checked(figure: str | PathLike[str]) -> Path:
    from seqlab.figures import check_path

    path = check_path(figure, "figure")
    files.require_writable("figure", path, 0)
    return path


def _numbers(found: Attenuation) -> tuple[float, float, float]:
    """Rate, horizon and the share of clipped steps, as in the curve's own table."""
    [line] = headlines(found)
    acts = rules.parse(found.clip).acts is Acts.IN_CHAIN
    clipped = float(found.variables["clipped_fraction"].data[0, 0]) if acts else math.nan
    return line.rate, line.horizon, clipped


def _acts(rule: Rule, gradients: Sequence[Tensor]) -> Tensor:
    """Whether a rule for gradients changes these, one truth value on their device."""
    import torch

    place = gradients[0].device
    with torch.no_grad():
        dense = [g.coalesce().values() if g.is_sparse else g for g in gradients]
        if rule.kind == "value":
            return torch.stack([(g.abs() > rule.threshold).any().to(place) for g in dense]).any()
        norms = torch.stack([torch.linalg.vector_norm(g).to(place) for g in dense])
        return ~(torch.linalg.vector_norm(norms) <= rule.threshold)  # nan makes nan of them all


@contextmanager
def _evaluating(modules: Sequence[Any]) -> Iterator[None]:
    """Modules in evaluation mode. Their flags alone: somebody's own `train()` may do more."""
    training = [module for module in modules if module.training]
    try:
        for module in training:
            module.training = False
        yield
    finally:
        for module in training:
            module.training = True


@contextmanager
def _no_autocast(x: Tensor) -> Iterator[None]:
    """Steps of training may be made where PyTorch casts to a shorter dtype."""
    import torch

    with torch.autocast(x.device.type if is_tensor(x) else "cpu", enabled=False):
        yield


def _spread(history: Sequence[Seen]) -> list[Attenuation]:
    """The curves of the first and last steps and of some between, one a step."""
    by_step = {seen.step: seen.attenuation for seen in history if seen.attenuation is not None}
    found = list(by_step.values())
    if not found:
        return []
    places = np.rint(np.linspace(0, len(found) - 1, min(MOST_CURVES, len(found)))).astype(int)
    return [found[place] for place in places]
