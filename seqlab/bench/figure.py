"""Our time against every size that can grow, beside the floor."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from seqlab.bench.growth import FLOOR
from seqlab.bench.processes import PER_STEP
from seqlab.bench.race import OURS
from seqlab.bench.results import Measured
from seqlab.figures.style import style, write_figure

SIZES = {"H": "units, H", "B": "sequences, B", "M": "networks, M"}

Points = Sequence[tuple[float, float]]


def name_of(machine_class: str) -> str:
    """The file of a machine class's figure."""
    return f"growth-{machine_class}.png"


def draw(measured: Measured, path: Path) -> None:
    """Draw what the cases `growth` and `long` measured; nothing where there is nothing."""
    panels = list(_panels(measured))
    if not panels:
        return
    with style():
        figure = Figure(figsize=(1.9 * len(panels), 1.9), layout="constrained")
        axes = figure.subplots(1, len(panels), squeeze=False)[0]
        for ax, (label, lines) in zip(axes, panels, strict=True):
            _panel(ax, label, lines)
        axes[0].set_ylabel("microseconds a step")
        figure.legend(*axes[0].get_legend_handles_labels(), loc="outside upper center", ncols=4)
        write_figure(figure, path)


def _panels(measured: Measured) -> Iterator[tuple[str, dict[str, Points]]]:
    """The label of each x axis, and lines by name."""
    grown = measured.rows("growth")
    for letter, label in SIZES.items():
        rows = [row for row in grown if row.labels["grows"] == letter]
        if rows:
            yield (
                label,
                {
                    name: [(float(row.labels["size"]), row.value(name)) for row in rows]
                    for name in (OURS, FLOOR)
                },
            )
    long = measured.rows("long")
    ways = dict.fromkeys(str(row.labels["through"]) for row in long)
    if long:
        yield (
            "steps, T",
            {
                way: [
                    (float(row.labels["T"]), row.value(PER_STEP))
                    for row in long
                    if row.labels["through"] == way
                ]
                for way in ways
            },
        )


def _panel(ax: Axes, label: str, lines: dict[str, Points]) -> None:
    looks = iter(("o-", "s--"))
    for name, points in lines.items():
        look = "--" if name == FLOOR else next(looks)
        ax.plot(*zip(*points, strict=True), look, markersize=3, label=name)
    ax.set(xscale="log", xlabel=label)
    if FLOOR in lines:
        sizes = [x for x, _ in lines[FLOOR]]
        ax.set_yscale("log")
        ax.set_xticks(sizes, [f"{x:g}" for x in sizes])
        ax.minorticks_off()
    else:
        ax.set_ylim(bottom=0)
        ax.legend()
