"""What forward() and backward() refuse: arrays, shapes, dtypes and names, in one line."""

import re
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from drawn import ARCHS, draw, public

import seqlab
from seqlab.cells import CELLS
from seqlab.errors import InputError

Array = npt.NDArray[Any]


def with_nan(value: Array) -> Array:
    bad = value.copy()
    bad.flat[-1] = np.nan
    return bad


def with_infinity(value: Array) -> Array:
    bad = value.copy()
    bad.flat[0] = -np.inf
    return bad


def narrowed(value: Array) -> Array:
    return value.astype(np.float32)


def lengthened(value: Array) -> Array:
    return np.concatenate([value, value])


def emptied(value: Array) -> Array:
    return value[:0]


def with_an_axis(value: Array) -> Array:
    return value[None]


SPOILERS = (with_nan, with_infinity, narrowed, lengthened, emptied, with_an_axis)


def refuses(names: tuple[str, ...], call: Callable[[], Any]) -> None:
    """In one line that begins with the argument's name and says what is allowed."""
    with pytest.raises(InputError) as refused:
        call()
    message = str(refused.value)
    assert message.startswith(tuple(f"{name}: " for name in names)), message
    assert "\n" not in message
    assert re.search("allowed|needed|leave it out|whole number|available", message), message


@pytest.mark.tiny
@pytest.mark.parametrize("arch", ARCHS)
@pytest.mark.parametrize("networks", [0, 2])
@pytest.mark.parametrize("spoil", SPOILERS)
def test_bad_arrays_are_refused(arch: str, networks: int, spoil: Callable[[Array], Array]) -> None:
    """Wrong values, dtype or shape of any parameter, the first state or grad_output."""
    run = draw(arch, networks=networks)

    def forward(**changed: Any) -> Any:
        return seqlab.forward(
            arch, **{"params": run.params, "x": run.x, "initial": run.initial} | changed
        )

    for name, value in run.params.items():
        # A wrong size in a parameter that sizes are read from shows at the first that disagrees,
        # which may be the state.
        wide = run.params | {name: np.zeros([2 * n for n in value.shape])}
        source = CELLS[arch].sizes(wide) != CELLS[arch].sizes(run.params)
        names = (name, *run.params, "initial") if source else (name,)
        refuses(names, partial(forward, params=run.params | {name: spoil(value)}))
    for k, part in enumerate(run.all_parts):
        spoilt = (*run.all_parts[:k], spoil(part), *run.all_parts[k + 1 :])
        name = f"initial[{k}]" if len(spoilt) > 1 else "initial"
        refuses((name,), partial(forward, initial=public(spoilt)))
    refuses(("grad_output",), partial(seqlab.backward, forward(), spoil(run.grad)))


@pytest.mark.tiny
@pytest.mark.parametrize("arch", ARCHS)
def test_a_bad_x_is_refused(arch: str) -> None:
    run = draw(arch)
    x = run.x
    bad = (with_nan(x), with_infinity(x), emptied(x), x[:, :0], x[..., :0], x[0], x[None, None])
    others = (x.astype(int), x.astype(complex), x.astype(">f8"), x.astype(np.float16), 1.0, "x")
    for value in (*bad, *others):
        refuses(("x",), partial(seqlab.forward, arch, run.params, value))
    # An M axis on one side only, too many features, or another dtype: the parameters do not fit x.
    for value in (x[None], np.concatenate([x, x], axis=-1), x.astype(np.float32)):
        refuses(tuple(run.params), partial(seqlab.forward, arch, run.params, value))


@pytest.mark.tiny
def test_bad_names_are_refused() -> None:
    run = draw("lstm")

    def forward(arch: Any = "lstm", params: Any = run.params, **options: Any) -> Any:
        return seqlab.forward(arch, params, run.x, **options)

    for arch in ("LSTM", "", "transformer", None):
        refuses(("arch",), partial(forward, arch))
    for activation in ("softsign", "", None, "relu"):  # relu means nothing for the lstm
        refuses(("activation",), partial(forward, activation=activation))
    for backend in ("tpu", "", None, "cuda"):
        refuses(("backend",), partial(forward, backend=backend))
    without = {name: value for name, value in run.params.items() if name != "bias_hh"}
    for params in ({}, without, run.params | {"weight_ho": run.x}):
        refuses(("params",), partial(forward, params=params))
    h, c = run.initial
    for initial in (h, (h,), (h, c, c), np.stack([h, c]), "zero"):
        refuses(("initial",), partial(forward, initial=initial))
    for clip in ("norm", "norm:", "norm:0", "step-norm:-1", "step-value:nan", "value:inf", "none:1",
                 "truncate:1.5", "truncate:0", "agc:1", "", None):  # fmt: skip
        refuses(("clip",), partial(seqlab.backward, forward(), run.grad, clip=clip))


def test_a_shape_says_what_it_follows_from() -> None:
    """x is as often the odd one as the weights are."""
    run = draw("lstm", hidden=6, inputs=3, steps=4, batch=2)
    with pytest.raises(InputError, match=r"is needed for 6 units and x of 2 features$"):
        seqlab.forward("lstm", run.params, run.x[..., :2])
    with pytest.raises(InputError, match=r"^clip: .*\(did you mean step-norm\?\)$"):
        seqlab.backward(seqlab.forward("lstm", run.params, run.x), run.grad, clip="stepnorm:1")
