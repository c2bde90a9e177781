"""The site: `sphinx-build -W --keep-going -b html docs docs/_build`."""

import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

import pages  # noqa: E402  (it stands beside this file)

from seqlab import __version__  # noqa: E402

project, author, release = "seqlab", "The seqlab developers", __version__
copyright = author
extensions = ["myst_nb", "sphinx.ext.autodoc"]
exclude_patterns = ["_build", "jupyter_execute"]
html_theme = "furo"
html_title = f"seqlab {release}"
html_show_sourcelink = html_copy_source = False
html_show_copyright = False
nb_execution_mode = "off"  # the notebook's outputs are stored; a test runs it
smartquotes = False  # tanh' is a slope
default_role = "code"  # of docstrings
myst_heading_anchors = 4  # as code hosts do
autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
autodoc_mock_imports = ["torch"]  # its part of the package is documented where it is missing


def _make(app):
    for place, text in pages.made().items():
        path = pages.ROOT / place
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")


def _finish(app, docname, source):
    if not docname.startswith(f"{pages.MADE}/") and Path(app.env.doc2path(docname)).suffix == ".md":
        source[0] = pages.finished(f"docs/{docname}.md", source[0])


def setup(app):
    app.connect("builder-inited", _make)
    app.connect("source-read", _finish)
