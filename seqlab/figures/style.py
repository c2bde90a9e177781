"""How every figure looks and how it is saved; nothing global is touched."""

import io
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl
import seaborn as sns
from matplotlib.figure import Figure

from seqlab.errors import InputError

FORMATS = (".pdf", ".svg", ".png")
SMALL = 7.0  # points: the smallest text, on paper
LARGE = 8.0  # points: labels
FONT = "DejaVu Sans"  # comes with Matplotlib: the same figure everywhere
LETTER = 0.58  # widths of a letter to the height of its text, about
INK = "0.25"
GREY = (0.45, 0.45, 0.45)


@dataclass(frozen=True)
class Width:
    """A place for a figure: inches of width, and how much larger than on paper its text is."""

    inches: float
    scale: float = 1.0
    height: float | None = None  # inches, where the place has one

    @property
    def paper(self) -> float:
        """Inches of width before text was enlarged."""
        return self.inches / self.scale

    @property
    def fixed(self) -> float | None:
        """Inches of height before text was enlarged, where it is not free."""
        return self.height and self.height / self.scale


# One and two columns of a journal (89 and 178 mm), and a slide of 16:9.
WIDTHS = {"single": Width(3.5), "double": Width(7.0), "slide": Width(13.33, 2.0, 7.5)}

Color = tuple[float, float, float]

_RC: dict[Any, Any] = {
    "font.family": "sans-serif",
    "font.sans-serif": [FONT],
    "mathtext.fontset": "dejavusans",
    "font.size": LARGE,
    "axes.labelsize": LARGE,
    "axes.titlesize": LARGE,
    "xtick.labelsize": SMALL,
    "ytick.labelsize": SMALL,
    "legend.fontsize": SMALL,
    "axes.linewidth": 0.6,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "xtick.minor.width": 0.4,
    "xtick.major.size": 3,
    "ytick.major.size": 3,
    "xtick.minor.size": 1.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.unicode_minus": True,
    "figure.labelsize": LARGE,
    "figure.titlesize": LARGE,
    "legend.frameon": False,
    "legend.handlelength": 2.2,
    "legend.columnspacing": 1.5,
    "hatch.linewidth": 0.5,
    "savefig.dpi": 300,
    "pdf.fonttype": 42,  # TrueType: editable, and accepted by journals
    "svg.fonttype": "path",
    "svg.hashsalt": "seqlab",  # the same ids each time
}

_LENGTHS = [name for name in _RC if name.endswith(("size", ".width", "axes.linewidth"))]

# What would differ from one writing of a figure to the next, or from one machine to another.
_NO_METADATA = {
    ".pdf": {"Creator": None, "Producer": None, "CreationDate": None},
    ".svg": {"Creator": None, "Date": None},
    ".png": {"Software": None},
}


@contextmanager
def style(scale: float = 1.0) -> Iterator[None]:
    """The look of seqlab's figures, within a `with` block only, over Matplotlib's defaults.

    `scale` enlarges text and lines.
    """
    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update(_RC | {name: scale * _RC[name] for name in _LENGTHS})
        yield


def points(size: float) -> float:
    """Points on paper as points of the figure being drawn, which may be a slide."""
    return float(size * mpl.rcParams["font.size"] / _RC["font.size"])


def width(name: str) -> Width:
    """A width by its name. Raises InputError."""
    if name.lower() not in WIDTHS:
        raise InputError(f"width: {name!r} is unknown; {', '.join(WIDTHS)}")
    return WIDTHS[name.lower()]


def palette(count: int) -> list[Color]:
    """Colours that colour-blind readers tell apart."""
    return list(sns.color_palette("colorblind", count))


def ramp(count: int) -> list[Color]:
    """Colours of ascending numbers, dark to light, none of them too light for a line."""
    return list(sns.color_palette("viridis", count + 1 + count // 6)[:count])


def pale(color: Color) -> Color:
    """Half way to white."""
    red, green, blue = ((1 + part) / 2 for part in color)
    return red, green, blue


def deep(color: Color) -> Color:
    """A third of the way to black."""
    red, green, blue = (part * 2 / 3 for part in color)
    return red, green, blue


def write_figure(figure: Figure, path: Path) -> None:
    """Write a figure as PDF, SVG or PNG by its suffix: the same bytes for the same figure."""
    suffix = path.suffix.lower()
    buffer = io.BytesIO()
    with style():
        figure.savefig(buffer, format=suffix[1:], metadata=_NO_METADATA[suffix])
    path.write_bytes(buffer.getvalue())
