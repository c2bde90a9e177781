"""The notebook of the site, from its first cell to its last."""

from pathlib import Path

import pytest

PATH = Path(__file__).parent.parent / "docs" / "notebook.ipynb"


@pytest.mark.slow
@pytest.mark.filterwarnings("default")  # of Jupyter's own
def test_the_notebook_runs_and_tells_what_it_says() -> None:
    """Its words speak of two losses: what guessing costs, and far less."""
    for name in ("torch", "ipykernel"):
        pytest.importorskip(name, reason=f"{name} is not installed")
    nbclient = pytest.importorskip("nbclient", reason="nbclient is not installed")
    nbformat = pytest.importorskip("nbformat", reason="nbformat is not installed")
    notebook = nbformat.read(PATH, as_version=4)
    nbclient.NotebookClient(notebook, timeout=None).execute()
    text = "".join(
        out.get("text", "") for cell in notebook.cells for out in cell.get("outputs", [])
    )
    guessing, learned = (
        float(line.split(":")[1]) for line in text.splitlines() if line.startswith("loss after")
    )
    assert guessing > 0.6
    assert learned < 0.3
