"""What the site has besides the pages that are written by hand: pages made of what the repository
knows already, and the links between all of them.

Plain text in, plain Markdown out, without Sphinx, so that the everyday tests read the site too.

A page says where something is put in by a comment, which a code host does not show:
`<!-- made at build time: WHAT WORDS -->`, where WHAT is a key of `MAKERS`. Made pages lie in
`docs/made/`, which git ignores.
"""

import functools
import inspect
import json
import posixpath
import re
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import click

from seqlab import __version__
from seqlab.cells import CELLS, Cell, Sizes
from seqlab.claims import presentation
from seqlab.claims.claim import PAGES, PAPERS, Claim, book
from seqlab.claims.court import Finding, Number
from seqlab.cli import main
from seqlab.numbers.estimate import Estimate
from seqlab.spec.table import TABLE
from seqlab.wording import one_of

ROOT = Path(__file__).resolve().parent.parent
DOCS, MADE = ROOT / "docs", "made"
RECORDS = {"claims": False, "papers": True}  # the overview of each, and whether papers print it
MARK = re.compile(r"<!-- made at build time: (\w+) ?([^>]*?) -->")
# A link or an image of Markdown outside of code; its text, its target.
LINK = re.compile(r"(!?)\[((?:[^\[\]]|!?\[[^\]]*\](?:\([^)]*\))?)*)\]\(([^()\s]+)\)")
CODE = re.compile(r"^(```+|~~~+)[\s\S]*?^\1[ ]*$|`[^`\n]+`", re.MULTILINE)


# Places: all as posix paths from the root of the repository.


@functools.cache
def copied() -> dict[str, str]:
    """Pages of the repository that lie outside of docs/, by where they are on the site."""
    found = {"CONTRIBUTING.md": "contributing", "CHANGELOG.md": "changes"}
    folders = sorted((ROOT / "experiments").glob("*/README.md"))
    found |= {f"experiments/{one.parent.name}/README.md": one.parent.name for one in folders}
    found["experiments/bench/results.md"] = "bench-results"
    found["experiments/cuda/results.md"] = "cuda-results"
    return {f"docs/{MADE}/{name}.md": path for path, name in found.items()}


def written() -> dict[str, str]:
    """The pages that are written by hand, as they are, by their place."""
    return {f"docs/{one.name}": one.read_text(encoding="utf-8") for one in DOCS.glob("*.md")}


def made() -> dict[str, str]:
    """The pages that are made, as the site has them, by their place."""
    pages = {
        place: moved((ROOT / source).read_text(encoding="utf-8"), source, place)
        for place, source in copied().items()
    }
    for claim in book().values():
        pages[_place_of_claim(claim.id)] = claim_page(claim)
    return pages


def finished(place: str, text: str) -> str:
    """A page written by hand as the site has it."""
    stem = Path(place).stem
    if stem in RECORDS:
        text = _overview(stem, text)
    return moved(_filled(text), place, place)


def _filled(text: str) -> str:
    def fill(mark: re.Match[str]) -> str:
        return MAKERS[mark[1]](mark[2], text[: mark.start()])

    return MARK.sub(fill, text)


# Links.


def links(text: str) -> Iterator[re.Match[str]]:
    """Links and images of a page, those within others too, without what is code."""
    # As long as the code, so that places stay.
    bare = CODE.sub(lambda code: "\0" * len(code[0]), text)
    for link in LINK.finditer(bare):
        yield link
        yield from LINK.finditer(link[2])


def relative(target: str) -> bool:
    """Whether a link goes to a file of the repository."""
    return not re.match(r"[a-z]+:", target) and not target.startswith("#")


def resolved(target: str, place: str) -> tuple[str, str]:
    """The file that a relative link of a page goes to, and what stands behind its "#"."""
    path, _, anchor = target.partition("#")
    return posixpath.normpath(posixpath.join(posixpath.dirname(place), path)), anchor


def moved(text: str, old: str, new: str) -> str:
    """A page with its links made for another place, to pages of the site where there are any."""
    on_site = {source: place for place, source in copied().items()}
    on_site |= {
        posixpath.dirname(source): place
        for source, place in on_site.items()
        if source.endswith("/README.md")
    } | {"README.md": "docs/index.md"}

    def follow(target: str) -> str | None:
        path, anchor = resolved(target, old)
        if path in ("docs/claims.md", "docs/papers.md") and anchor.upper() in book():
            path, anchor = _place_of_claim(anchor.upper()), ""
        path = on_site.get(path, path)
        if path == "docs/index.md" and old != "docs/index.md":
            anchor = ""  # the front page has other headings than README.md
        if (ROOT / path).is_dir():
            return None
        way = posixpath.relpath(path, posixpath.dirname(new))
        return f"{way}#{anchor}" if anchor else way

    def mend(whole: str) -> str:
        def one(link: re.Match[str]) -> str:
            bang, words, target = link.groups()
            words = LINK.sub(one, words)
            if not relative(target):
                return f"{bang}[{words}]({target})"
            way = follow(target)
            return words if way is None else f"{bang}[{words}]({way})"

        return LINK.sub(one, whole)

    parts, last = [], 0
    for code in CODE.finditer(text):
        parts += [mend(text[last : code.start()]), code[0]]
        last = code.end()
    return "".join([*parts, mend(text[last:])])


def anchors(text: str) -> set[str]:
    """What links may have behind their "#" on a page: its headings as code hosts spell them."""
    bare = re.sub(r"^(```+)[\s\S]*?^\1[ ]*$", "", text, flags=re.MULTILINE)
    titles = re.findall(r"^#+ (.+)$", bare, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


# What is put into pages.


def toctree(words: str, before: str) -> str:
    """A hidden table of contents: the pages that the text since the last one links to, in its
    order; `words` are its caption."""
    since = MARK.split(before)[-1]
    pages: dict[str, None] = {}
    for link in links(since):
        path, _, anchor = link[3].partition("#")
        if not link[1] and relative(link[3]) and not anchor and _is_page(path):
            pages[_name(path)] = None
    caption = f":caption: {words}\n" if words else ""
    return f"```{{toctree}}\n:hidden:\n{caption}\n{chr(10).join(pages)}\n```"


def _is_page(path: str) -> bool:
    return path.endswith((".md", ".ipynb")) or f"docs/{path}" in _folders()


@functools.cache
def _folders() -> dict[str, str]:
    """Places on the site of what pages in docs/ link to outside of it: files, and folders."""
    found = {}
    for place, source in copied().items():
        found[f"docs/../{source}"] = place
        if source.endswith("/README.md"):
            found[f"docs/../{posixpath.dirname(source)}"] = place
    return found


def _name(path: str) -> str:
    place = _folders().get(f"docs/{path}", f"docs/{path}")
    return place.removeprefix("docs/").rpartition(".")[0]


def cell(name: str, before: str) -> str:
    """What the registry knows of a cell: parameters, options, state, closed forms."""
    one = CELLS[name]
    lines = [f"Names and layouts are {one.names_of}'s.", "", "| parameter | shape |", "|---|---|"]
    lines += [
        f"| `{parameter}` | ({', '.join(dimensions)}) |"
        for parameter, dimensions in _dimensions(name).items()
    ]
    adjoint = ", ".join(one.parts)
    lines += ["", f"Parts of the state that have an adjoint: {adjoint}."]
    if one.without_adjoint:
        lines[-1] += f" Besides, without one: {', '.join(one.without_adjoint)}."
    lines += ["", "| option of `seqlab run` | what it is | default |", "|---|---|---|"]
    for option, row in TABLE.items():
        if option not in one.options and option != "input_scale":
            continue
        default = row.default_of(name) if row.default_of else row.default
        default = "the cell's own draw" if default is None else default
        lines.append(f"| `--{option.replace('_', '-')}` | {_told(one, option)} | {default} |")
    shared = "[`seqlab run --help`](commands.md#seqlab-run)"
    lines += ["", f"Every cell takes the options that have no name of a cell in {shared}."]
    if one.closed_forms:
        lines += ["", "`seqlab verify` compares with closed forms, in nats:", ""]
        lines += ["| closed form | largest difference allowed |", "|---|---|"]
        lines += [f"| {_in_table(form.name)} | {form.tolerance:.0e} |" for form in one.closed_forms]
    return "\n".join(lines)


def _told(one: Cell, option: str) -> str:
    """An option's help as far as it is about one cell."""
    if option == "init":
        return f"draw of the recurrent weights: {one_of(one.inits)}"
    if option == "forget_bias":
        return f"the {one.forget_gate} gate's bias{', or chrono' if one.chrono else ''}"
    if option == "input_scale" and not one.silent_drive:
        return "draw input weights with variance S^2/I"
    text = TABLE[option].help.rstrip(".")
    others = "|".join(CELLS)
    text = re.sub(rf"^(?:(?:{others}),? ?)+: ", "", text)  # whose option it is
    return _in_table(re.sub(r" \(not for [^)]*\)", "", text))


def _in_table(text: str) -> str:
    return text.replace("|", "\\|")


# What dimensions of parameters may be, of sizes; two sizes tell them apart.
_LETTERS: dict[str, Callable[[Sizes], int]] = {
    "H": lambda of: of.hidden,
    "I": lambda of: of.inputs,
    "N": lambda of: of.state,
    "1": lambda of: 1,
    "R": lambda of: -(-of.hidden // 16),
    "R + 2 N": lambda of: -(-of.hidden // 16) + 2 * of.state,
    "3 H": lambda of: 3 * of.hidden,
    "4 H": lambda of: 4 * of.hidden,
}
_TOLD_APART = (Sizes(32, 5, 7), Sizes(48, 13, 17))


def _dimensions(name: str) -> dict[str, list[str]]:
    """A cell's parameters with the letters of their dimensions."""
    letters = {tuple(map(size, _TOLD_APART)): letter for letter, size in _LETTERS.items()}
    one, other = map(CELLS[name].shapes, _TOLD_APART)
    return {
        parameter: [letters[pair] for pair in zip(one[parameter], other[parameter], strict=True)]
        for parameter in one
    }


def claims(words: str, before: str) -> str:
    """The hidden table of contents of an overview: a page a claim."""
    ids = [one.id for one in book().values() if one.paper == RECORDS[words]]
    pages = "\n".join(f"{one} <{MADE}/claims/{one}>" for one in ids)
    return f"```{{toctree}}\n:hidden:\n\n{pages}\n```"


def commands(words: str, before: str) -> str:
    """Every command's own help."""
    context = click.Context(main, info_name="seqlab", terminal_width=88)
    parts = [f"## seqlab\n\n```text\n{main.get_help(context)}\n```"]
    for name in sorted(main.commands):
        command = main.commands[name]
        own = click.Context(command, info_name=name, parent=context, terminal_width=88)
        parts.append(f"## seqlab {name}\n\n```text\n{command.get_help(own)}\n```")
    return "\n\n".join(parts)


def api(words: str, before: str) -> str:
    """The docstrings of public names, each under a heading of its own."""
    parts = []
    for name in words.split():
        module, _, last = name.rpartition(".")
        found = getattr(import_module(module), last)
        kind = "class" if inspect.isclass(found) else "function"
        members = "   :members:\n" if kind == "class" and found.__module__ != "builtins" else ""
        parts.append(f"## {name}\n\n```{{eval-rst}}\n.. auto{kind}:: {name}\n{members}```")
    return "\n\n".join(parts)


MAKERS: dict[str, Callable[[str, str], str]] = {
    "api": api,
    "cell": cell,
    "claims": claims,
    "commands": commands,
    "toctree": toctree,
    "version": lambda words, before: __version__,
}


# Claims.


def _place_of_claim(name: str) -> str:
    return f"docs/{MADE}/claims/{name}.md"


def _overview(stem: str, text: str) -> str:
    """The head and the table; what stands below has pages of its own on the site."""
    head, _, rest = text.partition("\n| |")
    table = rest.partition("\n\n")[0]
    table = re.sub(r"\[(\w+)\]\(#\w+\)", rf"[\1]({MADE}/claims/\1.md)", table)
    return f"{head}\n<!-- made at build time: claims {stem} -->\n\n| |{table}\n"


@functools.cache
def records() -> dict[str, tuple[dict[str, Any], dict[str, Any]]]:
    """Every claim as it was measured last, and the record it stands in."""
    found = {}
    for name in RECORDS:
        path = ROOT / "experiments" / "claims" / f"{name}.json"
        record = json.loads(path.read_text(encoding="utf-8"))
        found |= {one["id"]: (one, record) for one in record["claims"]}
    return found


def _finding(claim: Claim, entry: dict[str, Any]) -> Finding:
    cases = entry.get("cases", ())
    if not cases or cases[0]["value"] is None:
        return Finding(claim, None)
    numbers = []
    for case in cases:
        low, high = case["interval"] or (float("nan"), float("nan"))
        value = Estimate(float(case["value"]), float(low), float(high))
        numbers.append(Number(value, case["theory"]))
    return Finding(claim, tuple(numbers))


def claim_page(claim: Claim) -> str:
    """All that is known of one claim: its record, its figure, its place in the book."""
    entry, record = records()[claim.id]
    section = presentation.page([_finding(claim, entry)]).partition(f"\n## {claim.id}\n")[2]
    section = section.replace(f"*{claim.statement}* ", "", 1).rstrip()
    first, verdict = section.strip().partition("\n\n")[0], re.search(r"\*\*.+", section)
    assert verdict is not None
    rest = section.replace(verdict[0], "", 1).replace(first, "", 1)
    rest = re.sub(r"\n{3,}", "\n\n", rest).strip()
    lines = [f"# {claim.id}: {claim.statement}", "", verdict[0], "", first, "", rest]
    up = "../../../experiments/claims"
    if (ROOT / "experiments" / "claims" / f"{claim.id}.png").exists():
        data = f"[data of the figure]({up}/{claim.id}.csv)"
        lines += ["", f"![Curves of {claim.id}]({up}/{claim.id}.png)", ""]
        lines += [f"The gradient before any training, median and quartiles over networks; {data}."]
    lines += ["", "## How it was measured", ""]
    if claim.measured:
        known = ", ".join(f"{name} {value}" for name, value in record["versions"].items())
        lines += [f"On {record['date']} with {known}. Anew, on your machine:", ""]
        lines += ["```console", f"$ seqlab claims {claim.id}", "```", ""]
    page = next(one for one in (*PAGES, PAPERS) if claim.id in _ids(one))
    entry_at = f"[`{page}.toml`](../../../seqlab/claims/book/{page}.toml)"
    overview = f"[the overview](../../{'papers' if claim.paper else 'claims'}.md)"
    lines += [f"Its entry in the book is in {entry_at}. How verdicts follow: {overview}."]
    return "\n".join(lines) + "\n"


def _ids(page: str) -> list[str]:
    text = (ROOT / "seqlab" / "claims" / "book" / f"{page}.toml").read_text(encoding="utf-8")
    return re.findall(r'^id = "(\w+)"', text, re.MULTILINE)
