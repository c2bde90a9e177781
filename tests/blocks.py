"""Models of blocks, for probes through their layers."""

from collections.abc import Callable
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed (the extra `torch`)")
nn = torch.nn

# A link rounds entries some tens of times by 1.1e-16: 60 links stay below 60 * 50 * 1.1e-16 =
# 4e-13 nats even if all errors had one sign. Promised:
NEAR = 1e-10
# The same in float32, 60 * 50 * 6e-8, and its states are off by as much where slopes are taken.
NEAR_32 = 2e-4


def half_square(y: Any) -> Any:
    """A loss whose gradient is y."""
    return y.square().sum() / 2


class Model(nn.Module):  # type: ignore[misc]
    """Blocks in a list, and what is done with them."""

    def __init__(self, blocks: list[Any], run: Callable[[Any, Any], Any]) -> None:
        super().__init__()
        self.blocks, self.run = nn.ModuleList(blocks), run

    def forward(self, x: Any) -> Any:
        return self.run(self.blocks, x)


def linear(n: int = 4, m: int = 4) -> Any:
    return nn.Linear(n, m, dtype=torch.float64)


def one_by_one(blocks: Any, x: Any) -> Any:
    for block in blocks:
        x = block(x)
    return x


class Returns(nn.Module):  # type: ignore[misc]
    """A linear map in a form of output."""

    def __init__(self, form: Callable[[Any], Any]) -> None:
        super().__init__()
        self.linear, self.form = linear(), form

    def forward(self, s: Any) -> Any:
        return self.form(torch.tanh(self.linear(s)))
