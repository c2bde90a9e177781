"""How every figure looks and how it is saved; nothing global is touched."""

import io
from collections.abc import Iterator
from contextlib import contextmanager
from os import PathLike
from pathlib import Path
from typing import Any

import matplotlib as mpl
import seaborn as sns
from matplotlib.figure import Figure

from seqlab.errors import InputError

FORMATS = (".pdf", ".svg", ".png")
DOUBLE_COLUMN = 7.0  # inches
SMALL = 7.0  # points: the smallest text
INK = "0.25"

Color = tuple[float, float, float]

_RC: dict[Any, Any] = {
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],  # comes with Matplotlib: the same figure everywhere
    "mathtext.fontset": "dejavusans",
    "font.size": 8,
    "axes.labelsize": 8,
    "axes.titlesize": 8,
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
    "legend.frameon": False,
    "legend.handlelength": 2.2,
    "legend.columnspacing": 1.5,
    "savefig.dpi": 300,
    "pdf.fonttype": 42,  # TrueType: editable, and accepted by journals
    "svg.fonttype": "path",
    "svg.hashsalt": "seqlab",  # the same ids each time
}

# What would differ from one writing of a figure to the next, or from one machine to another.
_NO_METADATA = {
    ".pdf": {"Creator": None, "Producer": None, "CreationDate": None},
    ".svg": {"Creator": None, "Date": None},
    ".png": {"Software": None},
}


@contextmanager
def style() -> Iterator[None]:
    """The look of seqlab's figures, within a `with` block only, over Matplotlib's defaults."""
    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update(_RC)
        yield


def palette(count: int) -> list[Color]:
    """Colours that colour-blind readers tell apart."""
    return list(sns.color_palette("colorblind", count))


def pale(color: Color) -> Color:
    """Half way to white."""
    red, green, blue = ((1 + part) / 2 for part in color)
    return red, green, blue


def check_path(path: str | PathLike[str]) -> Path:
    """The path of a figure to be written; InputError for a format that is not written."""
    checked = Path(path)
    if checked.suffix.lower() not in FORMATS:
        raise InputError(f"plot: {str(path)!r} has no known format; allowed: {', '.join(FORMATS)}")
    return checked


def save(figure: Figure, path: str | PathLike[str]) -> None:
    """Write a figure as PDF, SVG or PNG by its suffix: the same bytes for the same figure."""
    target = check_path(path)
    suffix = target.suffix.lower()
    buffer = io.BytesIO()
    with style():
        figure.savefig(buffer, format=suffix[1:], metadata=_NO_METADATA[suffix])
    target.write_bytes(buffer.getvalue())
