"""Closed forms as `seqlab verify` checks them: what is right meets its own, what is wrong none."""

from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from drawn import parts, public

from seqlab.cells import CELLS
from seqlab.cells.cell import ClosedForm
from seqlab.claims import checks, stack_checks
from seqlab.measure.stack_gradients import StackGradients

FORMS = [pytest.param(f, id=f.name) for cell in CELLS.values() for f in cell.closed_forms]
# 10,000 layers take too long without the JIT.
STACKS = [
    pytest.param(*row, id=row[0], marks=[] if "10,000" in row[0] else [pytest.mark.tiny])
    for row in stack_checks.stack_checks()
]


class Wrong(checks._OnBackend):
    """A lab whose gradients are a millionth too large, and more with every step back."""

    def attenuation(self, *args: Any, **options: Any) -> Any:
        found = super().attenuation(*args, **options)
        drift = 1e-6 * (1 + found.lags)
        assert found.log_norm_input is not None
        return replace(
            found,
            log_norm=found.log_norm + drift,
            log_norm_input=found.log_norm_input + drift,
            parts={name: norms + drift for name, norms in found.parts.items()},
        )

    def backward(self, *args: Any) -> Any:
        found = super().backward(*args)
        wrong = tuple(part * (1 + 1e-6) for part in parts(found.initial))
        params = {name: value * (1 + 1e-6) for name, value in found.params.items()}
        return SimpleNamespace(initial=public(wrong), params=params)


@pytest.mark.parametrize("form", FORMS)
def test_a_closed_form_is_met_and_sees_what_is_wrong(form: ClosedForm) -> None:
    assert form.error(checks._OnBackend("cpu")) <= form.tolerance
    assert form.error(Wrong("cpu")) > form.tolerance


@pytest.mark.parametrize(("name", "tolerance", "measure"), STACKS)
def test_a_check_of_stacks_is_met_and_sees_what_is_wrong(
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    tolerance: float,
    measure: Callable[[str], float],
) -> None:
    """Wrong is up to a thousandth, another in each call: a factor of all would not change what two
    stacks have in common; and a little, where zero should be."""
    assert measure("cpu") <= tolerance
    right, rng = stack_checks.backpropagate, np.random.default_rng(2)

    def wrong(*given: Any) -> StackGradients:
        output, layers, x, log_norm = right(*given)
        factor = 1 + 1e-3 * rng.uniform(0.5, 1)
        drift = np.log(factor) * np.arange(log_norm.shape[1])
        return StackGradients(output, layers * factor + 1e-30, x * factor + 1e-30, log_norm + drift)

    monkeypatch.setattr(stack_checks, "backpropagate", wrong)
    assert measure("cpu") > tolerance


def test_a_backend_without_stacks_has_no_row_of_theirs() -> None:
    rows = {name for name, _, _ in stack_checks.stack_checks()}
    assert rows.isdisjoint(name for name, _, _ in checks._checks("cuda"))
    assert rows < {name for name, _, _ in checks._checks("auto")}
