"""What is measured of training, besides the curves of the networks as they are drawn."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from seqlab.numbers.quantity import HORIZON, THRESHOLDS, Quantity
from seqlab.numbers.variables import NEVER

_RULED, _EACH = ("rule", "length"), ("network", "rule", "length")
_row = partial(Quantity, units="1", optional=True, learned=True)


def _solved(data: Mapping[str, NDArray]) -> NDArray:
    return np.asarray((data["solved_at"] != NEVER).sum(axis=0))


def _diverged(data: Mapping[str, NDArray]) -> NDArray:
    return np.asarray((data["diverged_at"] != NEVER).sum(axis=0))


def _shown_horizon(data: Mapping[str, NDArray]) -> NDArray:
    return np.asarray(data["horizon_trained"][..., list(THRESHOLDS).index(HORIZON)])


def _has_solved(data: Mapping[str, NDArray]) -> NDArray:
    return (data["solved_at"] != NEVER).astype(np.float64)


def _updates_to_solve(data: Mapping[str, NDArray]) -> NDArray:
    return np.where(data["solved_at"] == NEVER, np.inf, data["solved_at"])


def _loss(data: Mapping[str, NDArray]) -> NDArray:
    """inf of a network that has diverged: it is not left out."""
    ended = (data["diverged_at"] != NEVER)[..., np.newaxis]
    return np.where(ended & np.isnan(data["loss"]), np.inf, data["loss"])


def _with_interval(
    name: str, dims: tuple[str, ...], long_name: str, units: str = "1", label: str = ""
) -> Iterator[Quantity]:
    middle = _row(name=name, dims=dims, units=units, long_name=long_name, read=name)
    yield replace(middle, label=label, kind="amount") if label else middle
    for end in ("low", "high"):
        own, told = f"{name}_{end}", f"{end} end of the 95% interval of {name}"
        yield _row(name=own, dims=dims, units=units, long_name=told, read=own)


COORDINATES = (
    _row(name="update", dims=("update",), long_name="updates made before a curve"),
    _row(
        name="loss_update",
        dims=("loss_update",),
        long_name="updates made at the end of those that a loss is the mean of",
    ),
)
# In the order of an entry of the JSON document.
LEARNED = (
    _row(
        name="networks_solved",
        dims=_RULED,
        long_name="networks that have solved the task",
        stored=False,
        derived=_solved,
        read="networks_solved",
    ),
    *_with_interval(
        "solved_share", _RULED, "share of networks that have solved the task (Wilson's interval)"
    ),
    *_with_interval(
        "updates_to_solve", _RULED, "Kaplan-Meier median of updates to solve; nan: not reached"
    ),
    _row(
        name="solved_at",
        dims=_EACH,
        long_name="first update after which the loss was under the threshold, -1 if it never was",
        never=True,
    ),
    _row(
        name="trivial_loss",
        dims=("length",),
        long_name="least expected loss of an answer that ignores its inputs",
        read="trivial_loss",
    ),
    _row(
        name="best_loss",
        dims=_EACH,
        long_name="least mean loss of the last 100 sequences",
        read="best_loss",
        label="least mean loss",
        kind="amount",
    ),
    _row(
        name="final_loss",
        dims=_EACH,
        long_name="last mean loss of 100 sequences, inf where it diverged",
        read="final_loss",
        label="last mean loss",
        kind="amount",
    ),
    _row(
        name="test_loss",
        dims=_EACH,
        long_name="mean loss of new sequences of the test's length, inf where it diverged",
        read="test_loss",
        label="mean loss of the test",
        kind="amount",
    ),
    _row(
        name="test_accuracy",
        dims=_EACH,
        long_name="share of right answers on new sequences of the test's length",
        read="test_accuracy",
        label="share of right answers in the test",
        kind="share",
        spread=True,
    ),
    _row(
        name="fired_share",
        dims=_EACH,
        long_name="mean over updates of the share at which the rule acted",
        read="fired_share",
        label="share of updates at which the rule acted",
        kind="share",
        over="mean",
    ),
    _row(
        name="networks_diverged",
        dims=_RULED,
        long_name="networks that ended without a finite loss or gradient",
        stored=False,
        derived=_diverged,
        read="networks_diverged",
    ),
    _row(
        name="diverged_at",
        dims=_EACH,
        long_name="update with no finite loss or gradient, counted from 0, -1 if there was none",
        never=True,
    ),
    _row(
        name="learning_rate",
        dims=_RULED,
        long_name="learning rate, the best where several were tried",
        read="learning_rate",
        label="learning rate",
        kind="amount",
    ),
    _row(
        name="clip_threshold",
        dims=_RULED,
        long_name="threshold of the rule, nan for none",
        read="clip_threshold",
    ),
    _row(
        name="horizon_shown",
        dims=_RULED,
        units="step",
        long_name=f"first lag at which the median after training is below {HORIZON}",
        stored=False,
        derived=_shown_horizon,
        read=f"horizon_trained_{HORIZON}",
        label=f"horizon at {HORIZON} after training (steps)",
        kind="lag",
    ),
    _row(
        name="horizon_trained",
        dims=("rule", "length", "threshold"),
        units="step",
        long_name="first lag at which the median after training is below the threshold, "
        "-1 if it never is, nan where all have diverged",
        kind="lag",
    ),
    *_with_interval(
        "learnable_length",
        ("rule",),
        "length that half of the networks learn; nan: all or none",
        units="step",
        label="learnable length (steps)",
    ),
    _row(
        name="log_norm_trained",
        dims=(*_EACH, "lag"),
        units="nat",
        long_name="ln norm of the adjoint after training, relative to lag 0, nan where diverged",
        value="log10_attenuation_trained",
        label="log10 attenuation after training (decades)",
        kind="decades",
    ),
    _row(
        name="log_moved",
        dims=(*_EACH, "lag"),
        units="nat",
        long_name="ln of how far training moved the weights of the layer at a lag, over their norm "
        "before, nan where diverged",
        value="log10_moved",
        label="log10 of the change of a layer's weights over their norm (decades)",
        kind="decades",
        to_start=False,
    ),
    _row(
        name="trace_log_norm",
        dims=(*_EACH, "update", "lag"),
        units="nat",
        long_name="ln norm of the adjoint in training, relative to lag 0, nan from its end on",
        value="log10_attenuation_traced",
        label="log10 attenuation (decades)",
        kind="decades",
    ),
    _row(
        name="loss",
        dims=(*_EACH, "loss_update"),
        long_name="mean loss of some updates, nan from the end of training on",
    ),
    # What figures alone have, network by network.
    _row(
        name="solved",
        dims=_EACH,
        long_name="1 where a network has solved the task",
        stored=False,
        derived=_has_solved,
        value="solved_share",
        label="share of networks that learn it",
        kind="share",
        over="proportion",
    ),
    _row(
        name="solved_after",
        dims=_EACH,
        long_name="updates to solve the task, inf for never",
        stored=False,
        derived=_updates_to_solve,
        value="updates_to_solve",
        label="updates to solve",
        kind="updates",
        over="survival",
    ),
    _row(
        name="loss_shown",
        dims=(*_EACH, "loss_update"),
        long_name="mean loss of some updates, inf of a network that has diverged",
        stored=False,
        derived=_loss,
        value="loss",
        label="mean loss",
        kind="amount",
    ),
)
