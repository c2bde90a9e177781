"""A watch as a callback of PyTorch Lightning, which is found where it is installed."""

import sys
from functools import cache, partial
from importlib import import_module
from typing import Any

from seqlab.probes.outlets import Seen, Watch
from seqlab.probes.states import Tensor
from seqlab.rules import Acts, parse
from seqlab.wording import did_you_mean, one_of, refuse

PACKAGES = ("lightning.pytorch", "pytorch_lightning")
# Strategies by which no process has all of the parameters.
_SHARDED = ("FSDP", "DeepSpeed", "ModelParallel")


def lightning_callback(
    x: Tensor, *, module: str | None = None, clip: str | None = None, **options: Any
) -> Any:
    """A callback for `lightning.pytorch.Trainer`, or `pytorch_lightning`'s, whichever is there.

        reach = seqlab.lightning_callback(x, module="rnn", figure="reach.pdf")
        trainer = Trainer(gradient_clip_val=1.0, callbacks=[reach])
        trainer.fit(model)
        reach.history

    It is a `seqlab.Watch` of the submodule with this name, or of the LightningModule itself, and
    logs the same two or three numbers to all loggers of the trainer, by `trainer.global_step`;
    without a logger they are in `history` alone. `clip` is the trainer's own rule, where it is left
    out. The other `options` are those of `seqlab.Watch` but `log`.

    It looks at gradients after they were accumulated and unscaled and before they are clipped; with
    several devices, where each has a whole copy, the first one does. The figure is drawn when
    training ends or is stopped.

    Raises InputError where Lightning is not installed; and when fitting starts, for what
    `seqlab.Watch` refuses, for strategies that shard parameters, and for a clip rule for gradients
    beside manual optimisation, in which they are clipped unseen.
    """
    if "log" in options:
        raise refuse("log", options["log"], "none: the trainer has its loggers")
    return _class(_bases())(x, module, clip, options)


def _bases() -> tuple[type, ...]:
    """The callbacks of every Lightning that is loaded, or else of the first that can be: one class
    serves the trainers of both."""
    loaded = [import_module(name).Callback for name in PACKAGES if name in sys.modules]
    for name in PACKAGES:
        if not loaded:
            try:
                loaded.append(import_module(name).Callback)
            except ModuleNotFoundError:
                continue
    if not loaded:
        raise refuse("lightning", "not installed", f"{one_of(PACKAGES)} is needed")
    return tuple(loaded)


@cache
def _class(bases: tuple[type, ...]) -> Any:
    return type("SeqlabCallback", (_Hooks, *bases), {})


class _Hooks:
    """What Lightning calls."""

    def __init__(
        self, x: Tensor, module: str | None, clip: str | None, options: dict[str, Any]
    ) -> None:
        self._x, self._module, self._clip, self._options = x, module, clip, options
        self.watch: Watch | None = None

    @property
    def history(self) -> list[Seen]:
        """What was seen of the network that was fitted last."""
        return self.watch.history if self.watch is not None else []

    def __reduce__(self) -> Any:
        """Strategies that start processes pickle callbacks, before fitting starts."""
        given = {"module": self._module, "clip": self._clip, **self._options}
        return partial(lightning_callback, self._x, **given), ()

    def on_fit_start(self, trainer: Any, pl_module: Any) -> None:
        self.watch = None
        strategy = type(trainer.strategy).__name__
        if any(kind in strategy for kind in _SHARDED):
            raise refuse("strategy", strategy, "each process must have all parameters, as by ddp")
        clip = _clip_of(trainer) if self._clip is None else self._clip
        manual = not pl_module.automatic_optimization
        if manual and clip is not None and parse(clip).acts is Acts.AFTER:
            allowed = "in manual optimisation call seqlab.Watch.on_step before you clip"
            raise refuse("clip", clip, allowed)
        net = _submodule(pl_module, self._module)
        if trainer.is_global_zero:

            def log(numbers: dict[str, float], step: int) -> None:
                for logger in trainer.loggers:
                    logger.log_metrics(numbers, step=step)

            self.watch = Watch(net, self._x, clip=clip, log=log, **self._options)

    def on_before_optimizer_step(self, trainer: Any, pl_module: Any, optimizer: Any) -> None:
        if self.watch is not None:
            clipped = [p for group in optimizer.param_groups for p in group["params"]]
            self.watch.on_step(trainer.global_step, clipped)

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        """Loggers still take numbers here, and the network is still where it was."""
        if self.watch is not None:
            self.watch.finish(trainer.global_step)

    def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:
        self.on_train_end(trainer, pl_module)


def _clip_of(trainer: Any) -> str | None:
    """The trainer's rule, as it is spelled here."""
    if not trainer.gradient_clip_val:
        return None
    kind = trainer.gradient_clip_algorithm or "norm"
    return f"{getattr(kind, 'value', kind)}:{float(trainer.gradient_clip_val)!r}"


def _submodule(pl_module: Any, name: str | None) -> Any:
    if name is None:
        return pl_module
    found = dict(pl_module.named_modules())
    if name not in found:
        known = did_you_mean(name, found)
        allowed = f"a submodule of {type(pl_module).__name__} is needed{known}"
        raise refuse("module", name, allowed)
    return found[name]
