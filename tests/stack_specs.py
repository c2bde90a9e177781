"""Specs of deep stacks, and the one line that a wrong one is refused with."""

from typing import Any

import pytest

from seqlab.errors import InputError
from seqlab.spec.stack import StackSpec


def stack(**given: Any) -> StackSpec:
    return StackSpec.create(**{"arch": "mlp", "steps": 12} | given)


def refusal(**given: Any) -> str:
    with pytest.raises(InputError) as caught:
        stack(**given)
    message = str(caught.value)
    assert "\n" not in message
    return message
