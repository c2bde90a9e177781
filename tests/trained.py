"""Results of training made up, in the shape of real ones, for tests of what is done with them."""

from types import SimpleNamespace

import numpy as np

from seqlab.numbers.quantities import in_files
from seqlab.spec.learn import LearnSpec

LN1000 = np.log(1000)
KEPT = 40  # losses


def trained(
    arch="lstm", horizon=20, half=30.0, lengths=(10, 20, 40, 80), networks=8, spread=0.5, **given
):
    """Networks of a horizon, None for never, that learn lengths under `half`, each another one.

    Network m of M learns those under half * (1 + spread * (m - (M - 1)/2)/M), in 100 T/half + m
    updates; its loss falls from the trivial one by a factor of e in a fourth of these. `diverged`
    (default none) are networks that end at update 30 of every length. The gradient's reach rises to
    twice the horizon.
    """
    diverged = list(given.pop("diverged", ()))
    fields = {"task": "latch", "updates": 400, "clip": ["none", "norm:1"]} | given
    spec = LearnSpec.create(arch=arch, lengths=lengths, networks=networks, **fields)
    rules, count, steps = len(spec.clip), len(lengths), spec.steps
    shape = (networks, rules, count)
    own = half * (1 + spread * (np.arange(networks) - (networks - 1) / 2) / networks)
    times = 100 * np.array(lengths) / half + np.arange(networks)[:, None]
    times = times[:, None] + 5 * np.arange(rules)[:, None]
    wins = (np.array(lengths) < own[:, None])[:, None] & (times <= spec.updates)
    solved_at = np.where(wins, times, -1).astype(int)
    ended = np.full(shape, -1)
    solved_at[diverged], ended[diverged] = -1, 30
    over = np.where((solved_at < 0) & (ended < 0), spec.updates, np.maximum(solved_at, ended))
    over = over.max(axis=(0, 1))  # training of a length
    loss_update = np.arange(1, KEPT + 1) * spec.updates // KEPT
    fall = np.where(solved_at < 0, np.inf, times / 4)[..., None]
    loss = np.exp(-loss_update / fall)
    loss[np.broadcast_to(loss_update > over[:, None], loss.shape)] = np.nan
    loss[(ended >= 0)[..., None] & (loss_update > 30)] = np.nan
    lag = np.unique([0, *range(1, 21), *lengths])
    rate = LN1000 / horizon if horizon else 0.01
    curve = np.where(lag <= np.array(lengths)[:, None], -rate * (lag + 1e-9), np.nan)
    data = {
        "lag": lag,
        "length": np.array(lengths),
        "rule": np.array(spec.clip),
        "threshold": np.array([1e-1, 1e-3, 1e-6]),
        "log_norm": np.broadcast_to(curve, (*shape, lag.size)),
        "log_norm_input": np.broadcast_to(curve, (*shape, lag.size)),
        "underflow": np.zeros(shape),
        "theory": np.array(np.nan),
        "horizon": np.full((rules, 3), horizon if horizon and horizon <= steps else -1),
        "solved_at": solved_at,
        "diverged_at": ended,
        "trivial_loss": np.ones(count),
        "loss_update": loss_update,
        "loss": loss,
        "best_loss": np.fmin.reduce(loss, axis=-1),
        "final_loss": np.where(ended >= 0, np.inf, np.fmin.reduce(loss, axis=-1)),
        "fired_share": np.full(shape, 0.25),
        "log_norm_trained": np.broadcast_to(curve / 2, (*shape, lag.size)),
    }
    if spec.trace is not None:
        update = np.arange(0, spec.updates + 1, spec.trace)
        slower = 1 / (1 + update / spec.updates)
        traced = slower[:, None] * curve[:, None] * np.ones((networks, rules, 1, 1, 1))
        traced[np.broadcast_to((update > over[:, None])[..., None], traced.shape)] = np.nan
        gone = (ended >= 0)[..., None] & (update > 30)
        traced[np.broadcast_to(gone[..., None], traced.shape)] = np.nan
        data |= {"update": update, "trace_log_norm": traced}
    rows = in_files()
    found = {name: rows[name].variable(value) for name, value in data.items()}
    return SimpleNamespace(spec=spec, variables=found)
