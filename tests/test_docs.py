"""The site as plain text: pages that are reached, links that go somewhere, and pages that are made
of the registries. Sphinx is not needed; `docs/pages.py` makes what it reads."""

import datetime
import importlib.util
import json
import re
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import click
import pytest

import seqlab
from seqlab.cells import CELLS
from seqlab.claims.claim import book
from seqlab.cli import main

ROOT = Path(__file__).parent.parent


def load_pages() -> ModuleType:
    spec = importlib.util.spec_from_file_location("pages", ROOT / "docs" / "pages.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


pages = load_pages()


def in_repository() -> dict[str, str]:
    """Every page as a code host shows it, by its place."""
    places = ["README.md", "CONTRIBUTING.md"]
    places += sorted(f"docs/{one.name}" for one in (ROOT / "docs").glob("*.md"))
    places += sorted(
        f"experiments/{p.parent.name}/README.md" for p in ROOT.glob("experiments/*/README.md")
    )
    found = {place: (ROOT / place).read_text(encoding="utf-8") for place in places}
    notebook = json.loads((ROOT / "docs" / "notebook.ipynb").read_text(encoding="utf-8"))
    words = ["".join(one["source"]) for one in notebook["cells"] if one["cell_type"] == "markdown"]
    return found | {"docs/notebook.ipynb": "\n\n".join(words)}


@pytest.fixture(scope="module")
def site() -> dict[str, str]:
    """Every page as the site has it, by its place."""
    written = {place: pages.finished(place, text) for place, text in pages.written().items()}
    notebook = in_repository()["docs/notebook.ipynb"]
    return written | pages.made() | {"docs/notebook.ipynb": notebook}


def dead_links(found: dict[str, str]) -> Iterator[str]:
    """Relative links and images that go nowhere, on these pages or in the repository."""
    for place, text in found.items():
        for link in pages.links(text):
            if not pages.relative(link[3]) and not link[3].startswith("#"):
                continue
            path, anchor = pages.resolved(link[3], place)
            path = place if link[3].startswith("#") else path
            target = found.get(path)
            if target is None and not (ROOT / path).exists():
                yield f"{place}: {link[3]}"
            elif anchor and target is not None and anchor not in pages.anchors(target):
                yield f"{place}: {link[3]} (no such heading)"


def test_links_on_a_code_host_go_somewhere() -> None:
    assert list(dead_links(in_repository())) == []


def test_links_on_the_site_go_somewhere(site: dict[str, str]) -> None:
    """To pages of the site, or to files that it takes along, never to a folder or another page."""
    assert list(dead_links(site)) == []
    for place, text in site.items():
        for link in filter(lambda one: pages.relative(one[3]), pages.links(text)):
            path, _ = pages.resolved(link[3], place)
            taken_along = (ROOT / path).is_file() and not path.endswith(".md")
            assert path in site or taken_along, f"{place}: {link[3]}"


def test_every_page_is_reached_from_the_front_page(site: dict[str, str]) -> None:
    seen, ahead = set(), ["docs/index.md"]
    while ahead:
        place = ahead.pop()
        if place in seen:
            continue
        seen.add(place)
        for tree in re.findall(r"```\{toctree\}\n([\s\S]*?)```", site[place]):
            names = [line for line in tree.splitlines() if line and not line.startswith(":")]
            stems = [re.sub(r".*<(.*)>$", r"\1", name) for name in names]
            ahead += [next(p for p in site if p.rpartition(".")[0] == f"docs/{s}") for s in stems]
    assert seen == set(site)


def test_every_cell_has_a_page(site: dict[str, str]) -> None:
    for name, cell in CELLS.items():
        page = site[f"docs/{name}.md"]
        parameters = set(re.findall(r"^\| `(\w+)` \| \(", page, re.MULTILINE))
        assert parameters == set(cell.shapes(seqlab.cells.Sizes(64, 16)))
        options = set(re.findall(r"^\| `--([\w-]+)` ", page, re.MULTILINE))
        assert options == {one.replace("_", "-") for one in cell.options | {"input_scale"}}
        for form in cell.closed_forms:
            assert form.name.replace("|", "\\|") in page
        for title in ("The step back", "Draws", "What is known", "Held by"):
            assert f"\n## {title}" in page or name == "lru", (name, title)


def test_every_claim_has_a_page_with_its_verdict(site: dict[str, str]) -> None:
    records = pages.records()
    for name, claim in book().items():
        page = site[f"docs/made/claims/{name}.md"]
        verdict = records[name][0]["verdict"]
        assert page.startswith(
            f"# {name}: {claim.statement}\n\n**{verdict[0].upper()}{verdict[1:]}.**"
        )
        for case in claim.cases:
            assert f"{case.name} |" in page
            assert all(f"\n$ {command}\n" in page for command in case.commands())
        assert f"../../../experiments/claims/{name}.png" in page or not any(
            case.specs for case in claim.cases
        )


def test_every_command_has_its_help_on_the_page(site: dict[str, str]) -> None:
    page = site["docs/commands.md"]
    for name in main.commands:
        section = page.partition(f"\n## seqlab {name}\n")[2].partition("\n## ")[0]
        context = click.Context(main.commands[name], info_name=name)
        for option in main.commands[name].get_params(context):
            word = (
                option.opts[0] if isinstance(option, click.Option) else option.make_metavar(context)
            )
            assert word in section, (name, word)


def test_every_public_name_is_on_the_page_of_python() -> None:
    text = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
    mark = pages.MARK.search(text)
    assert mark is not None
    named = {one.removeprefix("seqlab.") for one in mark[2].split()}
    assert set(seqlab.__all__) - {"__version__"} <= named


def test_no_formula_is_taken_for_html() -> None:
    """Between angle brackets: a code host, and the site, would show nothing of it."""
    for place, text in in_repository().items():
        bare = pages.CODE.sub("", re.sub(r"<!--.*?-->", "", text, flags=re.DOTALL))
        bare = re.sub(r"^(?: {4}.*\n)+", "", bare, flags=re.MULTILINE)  # code by its indent
        assert not re.findall(r"<[a-zA-Z/][^>\n]*>", bare), place


def test_files_that_pages_name_are_there() -> None:
    for place, text in in_repository().items():
        for path in re.findall(r"`((?:tests|experiments|seqlab|docs)/[\w/.*-]+)`", text):
            assert "NAME" in path or list(ROOT.glob(path)), f"{place}: {path}"


def test_the_notebook_has_its_outputs_and_is_small() -> None:
    path = ROOT / "docs" / "notebook.ipynb"
    assert path.stat().st_size < 300_000
    cells = [
        one for one in json.loads(path.read_text("utf-8"))["cells"] if one["cell_type"] == "code"
    ]
    assert [one["execution_count"] for one in cells] == list(range(1, len(cells) + 1))
    kinds = {out["output_type"] for one in cells for out in one["outputs"]}
    assert kinds == {"stream", "display_data"}


def test_what_is_cited_is_what_is_there() -> None:
    text = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    fields = dict(re.findall(r"^([\w-]+): (.+)$", text, re.MULTILINE))
    assert fields["version"] == seqlab.__version__
    assert datetime.date.fromisoformat(fields["date-released"]) >= datetime.date(2026, 1, 1)
