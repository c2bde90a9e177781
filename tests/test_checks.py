"""Closed forms as `seqlab verify` checks them: every cell meets its own, a wrong gradient none."""

from types import SimpleNamespace
from typing import Any

import pytest
from drawn import parts, public

from seqlab.cells import CELLS
from seqlab.cells.cell import ClosedForm
from seqlab.claims import checks

FORMS = [pytest.param(f, id=f.name) for cell in CELLS.values() for f in cell.closed_forms]


class Wrong(checks._OnBackend):
    """A lab whose gradients are a millionth too large, and more with every step back."""

    def attenuation(self, *args: Any, **options: Any) -> Any:
        found = super().attenuation(*args, **options)
        drift = 1e-6 * (1 + found.lags)
        changed = {
            name: value + drift
            for name, value in vars(found).items()
            if name.startswith("log_norm") and value is not None
        }
        return SimpleNamespace(**vars(found) | changed)

    def backward(self, *args: Any) -> Any:
        found = super().backward(*args)
        wrong = tuple(part * (1 + 1e-6) for part in parts(found.initial))
        return SimpleNamespace(initial=public(wrong))


@pytest.mark.tiny
@pytest.mark.parametrize("form", FORMS)
def test_a_closed_form_is_met_and_sees_what_is_wrong(form: ClosedForm) -> None:
    assert form.error(checks._OnBackend("cpu")) <= form.tolerance
    assert form.error(Wrong("cpu")) > form.tolerance
