"""A network that is watched in training, and what is logged of it; `seeded` acts on every test of a
file that imports it."""

from collections.abc import Iterator
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed (the extra `peers`)")
nn = torch.nn

NAMES = ["seqlab/rate", "seqlab/horizon", "seqlab/clipped"]


@pytest.fixture(autouse=True)
def seeded() -> Iterator[None]:
    with torch.random.fork_rng():
        torch.manual_seed(3)
        threads = torch.get_num_threads()
        torch.set_num_threads(1)  # two are slower by far where others work too
        yield
        torch.set_num_threads(threads)


class Dropping(nn.Module):  # type: ignore[misc]  # a base of type Any
    """Two layers with dropout, batch norm and a head: what a probe refuses in training mode."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.GRU(3, 5, num_layers=2, dropout=0.5)
        self.norm, self.head = nn.BatchNorm1d(5), nn.Linear(5, 1)

    def forward(self, x: Any, state: Any = None) -> Any:
        y, state = self.rnn(x, state)
        return self.norm(y.reshape(-1, 5)).reshape(y.shape), state
