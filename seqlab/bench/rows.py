"""What a benchmark measured, as rows that JSON can hold."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from statistics import median
from typing import Any

Label = str | int
Samples = list[float]


@dataclass(frozen=True)
class Row:
    """One line of a table: labels that say what it is about, then columns of three kinds.

    `times` and `ratios` hold one number a round, `facts` one number.
    """

    labels: Mapping[str, Label]
    times: Mapping[str, Samples] = field(default_factory=dict)
    ratios: Mapping[str, Samples] = field(default_factory=dict)
    facts: Mapping[str, float] = field(default_factory=dict)

    def with_facts(self, facts: Mapping[str, float]) -> "Row":
        """The same row with more facts."""
        return replace(self, facts={**self.facts, **facts})

    def value(self, column: str) -> float:
        """The number of a column, the median where there are several. Raises KeyError."""
        if column in self.facts:
            return self.facts[column]
        return median((self.ratios if column in self.ratios else self.times)[column])

    def has(self, column: str) -> bool:
        """Whether `value` knows the column."""
        return column in self.facts or column in self.ratios or column in self.times

    def matches(self, where: Mapping[str, Label | list[Label]]) -> bool:
        """Whether the row has these labels; a list means any of its entries."""
        return all(
            self.labels.get(name) in (wanted if isinstance(wanted, list) else [wanted])
            for name, wanted in where.items()
        )

    def to_dict(self) -> dict[str, Any]:
        """As JSON keeps it."""
        return asdict(self)
