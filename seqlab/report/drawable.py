"""The names of what figures show, for those who ask for one: no figure is loaded for them."""

from seqlab.numbers.quantities import in_figures
from seqlab.report.points import PARTS
from seqlab.spec import kinds
from seqlab.spec.option import labels

ABOUT = {  # what of, where the name does not say it
    "heatmap": "",
    "curves": "",
    "profile": "lag x length of single runs; of several layers lag x layer",
    "distribution": "of networks",
    "histogram": "of networks and lags",
}
KINDS = tuple(ABOUT)
WIDTHS = ("single", "double", "slide")
SCALES = ("log", "linear")
# Fields where they are asked for: each run is taken apart into the parts of its state, or what a
# gradient is made of into the parameters.
PART, PARAMETER = PIECES = ("part", "parameter")
# Coordinates of a curve.
COORDINATES = {
    "length": "sequence length (steps)",
    "lag": "lag (steps back from the loss)",
    "update": "updates",
}
# Fields of training, which has networks of its own for each length.
RELATIVE = "relative_length"
DRAWN = "drawn"
OF_TRAINING = {
    "length": COORDINATES["length"],
    RELATIVE: "length / horizon at initialisation",
    DRAWN: "cell",
}
# Fields of a grid, with the labels of their axes; those that tell more come first.
FIELDS = labels(kinds.options()) | {PART: "part of the state", PARAMETER: "parameter"} | OF_TRAINING
AXES = FIELDS | COORDINATES
VALUES = tuple(name for quantity in in_figures(PARTS) for name in quantity.names)
