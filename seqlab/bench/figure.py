"""Our time against every size that can grow, beside the floor."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from seqlab.bench.growth import FLOOR
from seqlab.bench.processes import PER_STEP
from seqlab.bench.race import OURS
from seqlab.bench.results import Results
from seqlab.figures.style import style, write_figure

FIGURE = "growth.png"
SIZES = {"H": "units, H", "B": "sequences, B", "M": "networks, M"}

Points = Sequence[tuple[float, float]]


def draw(results: Results, folder: Path) -> None:
    """Draw what the cases `growth` and `long` measured; nothing where there is nothing."""
    panels = list(_panels(results))
    if not panels:
        return
    with style():
        figure = Figure(figsize=(1.9 * len(panels), 1.9), layout="constrained")
        axes = figure.subplots(1, len(panels), squeeze=False)[0]
        for ax, (label, lines) in zip(axes, panels, strict=True):
            _panel(ax, label, lines)
        axes[0].set_ylabel("microseconds a step")
        figure.legend(*axes[0].get_legend_handles_labels(), loc="outside upper center", ncols=4)
        write_figure(figure, folder / FIGURE)


def _panels(results: Results) -> Iterator[tuple[str, dict[str, Points]]]:
    """The label of each x axis, and lines by name."""
    grown = results.rows("growth")
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
    long = results.rows("long")
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
    looks = {OURS: "o-", FLOOR: "--"}
    for name, points in lines.items():
        ax.plot(*zip(*points, strict=True), looks.get(name, "o-"), markersize=3, label=name)
    ax.set(xscale="log", yscale="log", xlabel=label)
    if FLOOR in lines:
        sizes = [x for x, _ in lines[FLOOR]]
        ax.set_xticks(sizes, [f"{x:g}" for x in sizes])
        ax.minorticks_off()
    else:
        ax.legend()
