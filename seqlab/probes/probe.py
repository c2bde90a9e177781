"""`seqlab.probe`: the attenuation of a network that lives in somebody's own PyTorch."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from seqlab import rules
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
from seqlab.probes.recognised import first_state, recognised, refusing
from seqlab.probes.refusals import check
from seqlab.probes.states import State, Tensor, kept
from seqlab.probes.steps import check_lengths, walk
from seqlab.rules import Rule
from seqlab.spec.fields import lengths as parse_lengths
from seqlab.spec.kinds import Progress
from seqlab.spec.probed import PROBED_TABLE
from seqlab.study.attenuation import Attenuation
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
    progress: Progress | None = None,
) -> Attenuation:
    """How far back the gradient of a network's last output reaches, in log scale, exactly.

    `net` is a module called as `(x, state) -> (y, state)`, such as nn.LSTM of any number of layers
    or a language model; a cell, `(x_t, state) -> state` or `(y, state)`, with its first `state`; or
    a list of such networks. x is in the network's own layout, `time` its axis of time: left out,
    1 where `net.batch_first` says so, else 0. With `networks` and `reset`, a function that draws a
    module's parameters in place, so many copies of it are probed.

    The loss is `readout` . y_T, y_T the output of the last step, summed over sequences (left out, a
    random unit vector), or `loss(y_T)`, one number. `lengths` are the steps T of the sequences
    x[:T], the longest left out; lags are multiples of `every`, and so must lengths be: longer
    chunks are faster.

    `wrt` says what is differentiated by. "state": the whole state, every tensor that one step hands
    to the next. By seqlab's own kernels for one layer and direction of nn.RNN, nn.LSTM, nn.GRU and
    their cells; else by PyTorch's differentiation, step by step, all tensors rescaled together.
    "input": x_t itself, for what has no state, in float64 and without log scale. "layers" or a list
    of names of submodules: the outputs of a model's blocks, lags counted in blocks, of a loss of
    the model's whole output. `clip` acts on the joint adjoint of each sequence as in
    `seqlab.backward`; `norm` and `value` leave curves alone. `dtype`, "float64" or "float32", has a
    copy of the modules probed; left out they are probed as they are. `name` tells this probe from
    others in tables and figures; left out it is that of the class.

    `progress(fraction, what)` is called now and then. Modules, their gradients, and PyTorch's
    modes, threads and random state are as before afterwards.

    Raises InputError, before any work, for whatever would give a wrong curve: dropout and batch
    norm in training mode, two directions, packed sequences, whole numbers where their gradient is
    asked for, tensors on several devices; and for a net whose second call gives another answer.
    """
    nets = networks_of(net, networks, reset)
    of_one_kind(nets)
    state = taken_apart(state)
    begun, losses = (
        Begun(PROBED_TABLE["name"].parse("name", name or name_of(nets[0]))),
        Losses(readout, loss),
    )
    asked = _Asked(state, losses, lengths, every, rules.parse(clip), progress, begun)
    through_layers = wrt == "layers" or not isinstance(wrt, str)
    if time is None:
        time = _time_axis(nets[0], x)
    for one in nets:
        check(one, x, state, wrt, None if through_layers else time)
    wanted = dtype_named(dtype)
    if wrt == "input" and wanted is None and modules_of(nets[0]):
        wanted = "float64"
    if wanted is not None:
        nets = [in_dtype(one, wanted) for one in nets]
        x = tensors_in_dtype(x, wanted)
        asked = replace(asked, state=tensors_in_dtype(state, wanted))
    if through_layers:
        return asked.through_layers(nets, x, None if wrt == "layers" else list(wrt))
    if wrt == "input":
        return asked.of_inputs(nets, x, time)
    return asked.of_states(nets, x, time)


def _time_axis(net: Any, x: Tensor) -> int:
    """Sequences of whole numbers (tokens) have no axis of features."""
    first = any(getattr(module, "batch_first", False) for module in modules_of(net)[:1])
    return int(first and (x.dim() > 2 or not x.is_floating_point()))


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
        with quiet([module for net in nets for module in modules_of(net)], x):
            steps = [recognised(net, x, self.state, time) for net in nets]
            start, like = self._start(steps[0], x, name_of(nets[0]))
        self.losses.check(like)
        lengths = self._lengths(x.shape[steps[0].time])
        if all(map(has_kernels, nets)):
            norms = on_kernels(nets, x, start, self.losses, lengths, str(self.rule), like)
            return of_norms(norms, lengths, self.every, self.begun)
        walks = [
            walk(
                one,
                x,
                start,
                self.losses.of(m),
                lengths,
                self.every,
                self.rule,
                self._share(m, len(nets)),
            )
            for m, one in enumerate(steps)
        ]
        found = Found(walks, "autograd", self.rule, like, self.every, steps[0].sequences_in(x))
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
            inputs(net, x, time, self.losses.of(m), lengths, self._share(m, len(nets)))
            for m, net in enumerate(nets)
        ]
        return of_walks(Found(walks, "input", self.rule, x), self.begun)

    def through_layers(
        self, nets: Sequence[Any], x: Tensor, names: list[str] | None
    ) -> Attenuation:
        self._require_plain("layers")
        if self.lengths is not None:
            raise refuse("lengths", self.lengths, "none beside wrt layers: a model has one depth")
        through = [layers(net, x, self.losses.of(m), names) for m, net in enumerate(nets)]
        walks, blocks = [one.walk for one in through], tuple(through[0].names)
        found = Found(walks, "autograd", self.rule, x, link="layer", names=blocks)
        return of_walks(found, self.begun)

    def _lengths(self, steps: int) -> list[int]:
        """The lengths in the order asked for."""
        every = self.every
        if isinstance(every, bool) or not isinstance(every, int) or not 1 <= every <= steps:
            raise refuse("every", every, f"a whole number of steps from 1 to {steps}")
        if self.lengths is None:
            return [steps - steps % every]
        given = self.lengths
        found = list(parse_lengths("lengths", given) if isinstance(given, str) else given)
        check_lengths(steps, found)
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

    def _share(self, network: int, networks: int) -> Progress | None:
        """The progress of one network, as that of all."""
        if (progress := self.progress) is None:
            return None
        return lambda fraction, what: progress((network + fraction) / networks, what)
