"""`seqlab.probe`: the attenuation of a network that lives in somebody's own PyTorch."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from seqlab import rules
from seqlab.measure.progress import Pace, parts
from seqlab.probes.adapters import taken_apart
from seqlab.probes.attenuated import Begun, Found, of_norms, of_walks
from seqlab.probes.callables import Steps, modules_of, name_of
from seqlab.probes.ensembles import (
    dtype_named,
    in_dtype,
    networks_of,
    of_one_kind,
    tensors_in_dtype,
)
from seqlab.probes.inputs import inputs
from seqlab.probes.layers import layers
from seqlab.probes.losses import Losses
from seqlab.probes.on_kernels import has_kernels, on_kernels
from seqlab.probes.quiet import quiet
from seqlab.probes.recognised import first_state, recognised, refusing, time_axis
from seqlab.probes.refusals import check
from seqlab.probes.repeats import check_repeats
from seqlab.probes.states import State, Tensor, kept
from seqlab.probes.steps import walk
from seqlab.rules import Rule
from seqlab.spec.fields import check_lengths
from seqlab.spec.fields import lengths as parse_lengths
from seqlab.spec.kinds import Progress
from seqlab.spec.probed import PROBED_TABLE
from seqlab.study.attenuation import Attenuation
from seqlab.study.progress_line import Asked, reporting
from seqlab.wording import refuse


def probe(
    net: Any,
    x: Tensor,
    state: State = None,
    *,
    readout: Any = None,
    loss: Callable[[Tensor], Tensor] | None = None,
    lengths: Sequence[int] | str | None = None,
    every: int = 1,
    wrt: str | Sequence[str] = "state",
    clip: str = "none",
    dtype: Any = None,
    time: int | None = None,
    name: str | None = None,
    networks: int | None = None,
    reset: Callable[[Any], object] | None = None,
    progress: Asked = None,
) -> Attenuation:
    """How far back the gradient of a network's last output reaches, in log scale, exactly.

    `net` is a module called as `(x, state) -> (y, state)`, such as nn.LSTM of any number of layers
    or a language model; a cell, `(x_t, state) -> state` or `(y, state)`, with its first `state`; or
    a list of such networks. x is in the network's own layout, `time` its axis of time: left out,
    1 where `batch_first` of the network, or of all modules within, says so, else 0. With `networks`
    and `reset`, a function that draws a module's parameters in place, so many copies of it are
    probed.

    The loss is `readout` . y_T, y_T the output of the last step, summed over sequences (left out, a
    random unit vector), or `loss(y_T)`, one number. `lengths` are the steps T of the sequences
    x[:T], the longest left out; lags are multiples of `every`, and so must lengths be: longer
    chunks are faster.

    `wrt` says what is differentiated by. "state": the whole state, every tensor that one step hands
    to the next. By seqlab's own kernels for nn.RNN, nn.LSTM, nn.GRU of one direction and their
    cells; else by PyTorch's differentiation, step by step, all tensors rescaled together.
    "input": x_t itself, for what has no state, in float64 and without log scale. "layers" or a list
    of names of submodules: the outputs of a model's blocks, lags counted in blocks, of a loss of
    the model's whole output. `clip` acts on the joint adjoint of each sequence as in
    `seqlab.backward`; `norm` and `value` leave curves alone. `dtype`, "float64" or "float32", has a
    copy of the modules probed; left out they are probed as they are. `name` tells this probe from
    others in tables and figures; left out it is that of the class.

    `progress(fraction, what)` is called now and then; True shows a line on stderr. Modules, their
    gradients, and PyTorch's modes, threads and random state are as before afterwards.

    Raises InputError, before any work, for whatever would give a wrong curve: dropout and batch
    norm in training mode, two directions, packed sequences, whole numbers where their gradient is
    asked for, tensors on several devices; and for a net whose second call gives another answer.
    """
    nets = networks_of(net, networks, reset)
    state = taken_apart(state)
    called = PROBED_TABLE["name"].parse("name", name_of(nets[0]) if name is None else name)
    with reporting(progress) as tell:
        pace = None if tell is None else Pace(tell)
        begun, losses = Begun(called), Losses(readout, loss)
        asked = _Asked(state, losses, lengths, every, rules.parse(clip), pace, begun)
        through_layers = wrt == "layers" or not isinstance(wrt, str)
        for one in nets:
            check(one, x, state, wrt, time)
        of_one_kind(nets)
        wanted = dtype_named(dtype)
        if wrt == "input" and wanted is None and modules_of(nets[0]):
            wanted = "float64"
        if wanted is not None:
            nets = [in_dtype(one, wanted) for one in nets]
            x = tensors_in_dtype(x, wanted)
            asked = replace(asked, state=tensors_in_dtype(state, wanted))
        if through_layers:
            if time is not None:
                raise refuse("time", time, "none beside wrt layers: x goes in whole")
            return asked.through_layers(nets, x, None if wrt == "layers" else list(wrt))
        time = time_axis(nets[0], x, time)
        if wrt == "input":
            return asked.of_inputs(nets, x, time)
        return asked.of_states(nets, x, time)


@dataclass(frozen=True)
class _Asked:
    """What is asked of every network, route by route."""

    state: State
    losses: Losses
    lengths: Sequence[int] | str | None
    every: int
    rule: Rule
    progress: Progress | None
    begun: Begun

    def of_states(self, nets: Sequence[Any], x: Tensor, time: int) -> Attenuation:
        lengths = self._lengths(x.shape[time])
        with quiet([module for net in nets for module in modules_of(net)], x):
            steps = [recognised(net, x, self.state, time) for net in nets]
            name = name_of(nets[0])
            starts = [self._start(step, x, name) for step in steps]  # zeros must do for each
            start, like = starts[0]
            self.losses.check(like)
            on_own = all(map(has_kernels, nets))
            for step in steps if on_own else ():  # weights may be drawn anew at every look
                check_repeats(step, x, start)
        if on_own:
            norms = on_kernels(nets, x, start, self.losses, lengths, str(self.rule), like)
            self._tick(1.0, "kernels")
            return of_norms(norms, lengths, int(self.every), self.begun)
        every = int(self.every)
        walks = [
            walk(one, x, start, self.losses.of(m), lengths, every, self.rule, part)
            for m, (one, part) in enumerate(zip(steps, self._each(len(nets)), strict=True))
        ]
        sequences = steps[0].sequences_in(x)
        found = Found(walks, "autograd", self.rule, like, every, sequences)
        return of_walks(found, self.begun)

    def _start(self, step: Steps, x: Tensor, name: str) -> tuple[State, Tensor]:
        """The first state, and the output of a step, for its form."""
        import torch

        start = first_state(step, x, name) if self.state is None else step.apart(self.state)
        with torch.no_grad(), refusing(name, x):
            return start, step.run(step.piece(x, 0, 1), kept(start))[0]

    def of_inputs(self, nets: Sequence[Any], x: Tensor, time: int) -> Attenuation:
        self._require_plain("input")
        lengths = self._lengths(x.shape[time])
        walks = [
            inputs(net, x, time, self.losses.of(m), lengths, part)
            for m, (net, part) in enumerate(zip(nets, self._each(len(nets)), strict=True))
        ]
        return of_walks(Found(walks, "input", self.rule, x), self.begun)

    def through_layers(
        self, nets: Sequence[Any], x: Tensor, names: list[str] | None
    ) -> Attenuation:
        self._require_plain("layers")
        if self.lengths is not None:
            raise refuse("lengths", self.lengths, "none beside wrt layers: a model has one depth")
        through = []
        for m, net in enumerate(nets):
            through.append(layers(net, x, self.losses.of(m), names))
            self._tick((m + 1) / len(nets), "layers")
        walks, blocks = [one.walk for one in through], tuple(through[0].names)
        found = Found(walks, "autograd", self.rule, x, link="layer", names=blocks)
        return of_walks(found, self.begun)

    def _lengths(self, steps: int) -> list[int]:
        """The lengths in the order asked for."""
        every = self.every
        whole = isinstance(every, int | np.integer) and not isinstance(every, bool)
        if not (whole and 1 <= every <= steps):
            raise refuse("every", every, f"a whole number of steps from 1 to {steps}")
        if self.lengths is None:
            return [steps - steps % every]
        given = self.lengths
        if isinstance(given, str):
            given = parse_lengths("lengths", given)
        if not isinstance(given, Iterable):
            raise refuse("lengths", given, f"a list of whole numbers from 1 to {steps}")
        found = list(given)
        check_lengths(found, steps)
        if odd := [length for length in found if length % every]:
            raise refuse("lengths", odd[0], f"multiples of every, {every}")
        return found

    def _require_plain(self, wrt: str) -> None:
        if self.rule.in_chain:
            raise refuse("clip", str(self.rule), f"none beside wrt {wrt}, which has no steps")
        if self.every != 1:
            raise refuse("every", self.every, f"1 beside wrt {wrt}")
        if self.state is not None:
            raise refuse("state", "one", f"none beside wrt {wrt}, for which the network is net(x)")

    def _tick(self, fraction: float, what: str) -> None:
        if self.progress is not None:
            self.progress(fraction, what)

    def _each(self, networks: int) -> list[Progress | None]:
        """The progress of each network, as that of all."""
        return parts(self.progress, [1.0] * networks)
