"""What a result and an attenuation offer to people alike: numbers, a notebook's view, a figure."""

import base64
import io
from collections.abc import Iterator
from contextlib import suppress
from functools import cached_property
from html import escape
from os import PathLike
from typing import TYPE_CHECKING, Any

from seqlab.errors import InputError
from seqlab.numbers.quantities import is_training
from seqlab.numbers.quantity import HORIZON
from seqlab.report.entries import entries
from seqlab.report.numbers import Numbers
from seqlab.spec import kinds
from seqlab.study import outlets
from seqlab.wording import describe_settings, did_you_mean, one_of, refuse

if TYPE_CHECKING:  # its subclasses have as fields what a report asks for
    from matplotlib.figure import Figure

    from seqlab.report.measured import Measured
else:
    Measured = object

DPI = 80  # of the small figure in a notebook


class Face(Measured):
    """Of whatever a report can be made of: `self[rule]` has one clip rule's numbers as attributes;
    `rules` are the rules in order, over which it also iterates."""

    @property
    def rules(self) -> tuple[str, ...]:
        """Its clip rules, in order."""
        return tuple(self._numbers)

    def __getitem__(self, rule: str) -> Numbers:
        """A clip rule's numbers, such as `result["none"].decay_rate`.

        Raises InputError for a rule that it does not have.
        """
        if rule not in self._numbers:
            close = did_you_mean(rule, self.rules) if isinstance(rule, str) else ""
            raise refuse("rule", rule, one_of(self.rules) + close)
        return self._numbers[rule]

    def __iter__(self) -> Iterator[str]:
        return iter(self._numbers)

    def summary(self) -> str:
        """The table that its command prints, at most 80 columns wide; no newline at the end."""
        return kinds.table([self])

    def plot(self, path: str | PathLike[str] | None = None) -> "Figure":
        """The curves as a Matplotlib figure; of a state with several named parts, as of stacked
        layers, a map of part x lag.

        With a path it is also written, to a PDF, SVG or PNG, with its data beside it as CSV.
        Raises InputError for another suffix, and where there is nothing to draw.
        """
        from seqlab.figures import plot_reach

        return plot_reach([self], path)

    def log(self, target: Any, step: int | None = None) -> None:
        """Write three numbers and the figure to where one's training is logged.

        `target` is a run of Weights & Biases (or the module `wandb`), a TensorBoard SummaryWriter,
        or a function that is called with a dictionary and the step. The dictionary has, as
        `seqlab.Watch` calls them, `seqlab/rate` in nats a step, `seqlab/horizon`, the first lag
        under 1e-3, and `seqlab/float32_zero`, the first at which float32 holds zero (inf where it
        never is so within the length); of several clip rules each `seqlab/RULE/rate` and so on. The
        Matplotlib figure is `seqlab/figure`. Raises InputError for another target or step.
        """
        write = outlets.outlet(target)
        write(outlets.numbers(self), outlets.step_of(step), self.plot())

    @cached_property
    def _numbers(self) -> dict[str, Numbers]:
        return {entry["clip"]: Numbers(entry) for entry in entries(self)}

    def __repr__(self) -> str:
        spec, (link,) = self.spec, kinds.links([self.spec.arch])
        words = kinds.of_spec(spec).table.words
        told = {words[n]: getattr(spec, n) for n in ("steps", "networks", "clip")}
        rule, of = self.rules[0], getattr(spec, "name", spec.arch)
        if is_training(self.variables):
            said = f"{self[rule].networks_solved} of {spec.networks} networks solved the longest"
        else:
            lag = self[rule].horizon[HORIZON]
            within = f"{lag}" if lag is not None else f"> {spec.steps}"
            said = f"decay rate {self[rule].decay_rate:.4g} nat/{link}, horizon {within}"
        return f"{type(self).__name__} of {of}: {describe_settings(told)}\n{rule}: {said}"

    def _repr_html_(self) -> str | None:
        """What a notebook shows: the table, and the figure where there is one; None for neither."""
        try:
            parts = [f"<pre>{escape(self.summary())}</pre>"]
        except InputError:
            return None
        with suppress(InputError):  # there may be nothing to draw
            picture = base64.b64encode(_png(self.plot())).decode()
            parts.append(f'<img alt="curves" src="data:image/png;base64,{picture}">')
        return f"<div>{''.join(parts)}</div>"


def _png(figure: "Figure") -> bytes:
    from seqlab.figures.style import style

    buffer = io.BytesIO()
    with style():
        figure.savefig(buffer, format="png", dpi=DPI)
    return buffer.getvalue()
