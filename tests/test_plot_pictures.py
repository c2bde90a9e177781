"""Whole figures against pictures that were looked at.

`python tests/test_plot_pictures.py` draws the pictures in tests/pictures anew; look at them then.
"""

from pathlib import Path

import numpy as np
import pytest
from matplotlib.image import imread, imsave
from plots import STORES

from seqlab.figures import Request, plot

# That some runs are drawn as one is said in a note, which has a test of its own.
pytestmark = pytest.mark.filterwarnings("ignore:runs are drawn as one:seqlab.errors.Note")

PICTURES = Path(__file__).with_name("pictures")
BLOCK = 10  # pixels of a figure's 300 to the inch in one of a kept picture


KEPT = {
    "heatmap": ("gains", {"facet": "activation", "y": "gain"}),
    "curves": ("cells", {"kind": "curves"}),
    "profile": ("one", {"kind": "profile"}),
    "distribution": ("gains", {"kind": "distribution", "x": "gain", "y": "activation"}),
}


def picture(store, asked, path):
    """A figure in blocks of a thirtieth of an inch, (rows, columns, 3), 0 to 1."""
    plot(STORES[store], path, Request(**asked))
    pixels = imread(path)[..., :3]
    rows, columns = (side // BLOCK for side in pixels.shape[:2])
    cut = pixels[: rows * BLOCK, : columns * BLOCK]
    return cut.reshape(rows, BLOCK, columns, BLOCK, 3).mean(axis=(1, 3))


def alike(one, other):
    """Whether two pictures show the same.

    A block is half a letter wide. Another version of Matplotlib may draw letters and lines a pixel
    of 300 to the inch aside: a block then changes by a tenth of what is drawn in it, 0.1 at most.
    A colour, a line or a word that is another changes whole blocks, by 0.3 and more, and tens of
    them: 0.2% of a picture. So: all but 0.2% of the blocks within 0.2.
    """
    if one.shape != other.shape:
        return False
    return np.quantile(np.abs(one - other).max(axis=2), 0.998) < 0.2


@pytest.mark.parametrize("kind", KEPT)
def test_pictures_are_as_they_were_looked_at(kind, tmp_path):
    kept = imread(PICTURES / f"{kind}.png")[..., :3]
    assert alike(picture(*KEPT[kind], tmp_path / "a.png"), kept)


def test_a_picture_that_is_another_is_told(tmp_path):
    store, asked = KEPT["curves"]
    kept = imread(PICTURES / "curves.png")[..., :3]
    for changed in (
        {"where": {"arch": ["rnn", "lstm", "ssm"]}},
        {"where": {"clip": ["none"]}},
    ):
        assert not alike(picture(store, asked | changed, tmp_path / "a.png"), kept)


if __name__ == "__main__":
    PICTURES.mkdir(exist_ok=True)
    for kind, (store, asked) in KEPT.items():
        imsave(PICTURES / f"{kind}.png", picture(store, asked, PICTURES / f"{kind}.png"))
        (PICTURES / f"{kind}.csv").unlink()
