"""What is trained, as its measurement needs it: recurrent cells through time, or stacks through
depth."""

from collections.abc import Sequence
from typing import Protocol

from numpy.typing import NDArray

from seqlab.cells import Parameters
from seqlab.learning.course import Course
from seqlab.measure.curves import Curves
from seqlab.rules import Rule
from seqlab.spec.training import TrainingSpec

# What is measured at one length, by name, as files have it but for the axis of lengths.
Found = dict[str, NDArray]


class Subject(Protocol):
    """The networks of one spec, (E, ...) of them below: network `networks[e]` with parameters of
    its own."""

    parts: tuple[str, ...]

    @property
    def spec(self) -> TrainingSpec: ...

    def prepare(self) -> None:
        """Refuse draws that the dtype cannot hold, and compile the kernels. Raises InputError."""

    def course(self, length: int) -> Course:
        """One length."""

    def seconds(self, length: int, networks: int) -> float:
        """About how long all updates of so many networks take."""

    def reach(
        self, length: int, params: Parameters, networks: Sequence[int], rules: Sequence[Rule]
    ) -> list[Curves]:
        """Under each of the rules the curves of one length, from that many steps back on."""

    def tested(self, length: int, params: Parameters, networks: Sequence[int]) -> Found:
        """`test_loss` and `test_accuracy` (E,), as far as they are asked for."""

    def by_lag(self, length: int, params: Parameters, networks: Sequence[int]) -> Found:
        """What else is seen of trained networks, (E, length + 1) from lag 0 on."""
