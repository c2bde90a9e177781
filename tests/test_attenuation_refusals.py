"""What attenuation() refuses: lengths, readouts, names and thread counts, in one line."""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
from adjoints import attenuate
from drawn import draw

import seqlab
from seqlab.errors import InputError
from seqlab.kernels.cpu.threads import thread_count


def refuses(name: str, call: Callable[[], Any]) -> None:
    """In one line that begins with the argument's name and says what is allowed."""
    with pytest.raises(InputError, match=f"^{name}: .*(allowed|needed|unknown).*$") as refused:
        call()
    assert "\n" not in str(refused.value)


@pytest.mark.tiny
def test_bad_lengths_readouts_and_names_are_refused() -> None:
    run = draw("gru", steps=6, batch=2)

    def attenuation(arch: str = "gru", lengths: Any = (6,), **options: Any) -> Any:
        return seqlab.attenuation(arch, run.params, run.x, lengths, **options)

    for lengths in (
        [],
        [0],
        [-1, 3],
        [7],
        [3, 7],
        [2.0],
        [True],
        [3, 3],
        ["3"],
        "2:6:2",
        [[2], [3]],
    ):
        refuses("lengths", partial(attenuation, lengths=lengths))
    good = np.ones(3)
    for readout in (good[:2], np.ones((3, 3)), np.ones((1, 2, 3)), good.astype(np.float32),
                    good * np.nan, good * np.inf, np.ones(3, int)):  # fmt: skip
        refuses("readout", partial(attenuation, readout=readout))
    refuses("clip", partial(attenuation, clip="step-norm:0"))
    refuses("backend", partial(attenuation, backend="cuda"))
    refuses("arch", partial(attenuation, "lstn"))
    refuses("activation", partial(attenuation, activation="gelu"))


@pytest.mark.tiny
def test_a_bad_thread_count_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    for count in ("0", "-1", "two", ""):
        monkeypatch.setenv("NUMBA_NUM_THREADS", count)
        refuses("NUMBA_NUM_THREADS", partial(attenuate, draw("rnn"), [6], np.ones(3)))
    monkeypatch.setenv("NUMBA_NUM_THREADS", "3")
    assert thread_count() == 3
