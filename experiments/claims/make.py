"""Make the record, the figures and the pages of all claims from a store, in which what is missing
is measured first.

`python experiments/claims/make.py STORE`, from the root of the repository.
"""

import json
import re
import sys
import warnings
from pathlib import Path

from PIL import Image

from seqlab.claims import presentation
from seqlab.claims.claim import chosen
from seqlab.claims.court import Court, Finding
from seqlab.claims.figure import draw

HERE, DOCS = Path("experiments/claims"), Path("docs")
RECORDS = {"claims": False, "papers": True}  # of what people say, and of what papers print
COLORS = 64  # of a figure, which lines and their letters do not exceed by much


def settled(court: Court, papers: bool) -> list[Finding]:
    found = []
    for claim in chosen((), papers):
        sys.stdout.write(f"{claim.id}\n")
        found.append(court.measure(claim, False, lambda fraction, what: None))
    return found


def drawn(court: Court, finding: Finding) -> None:
    path = HERE / f"{finding.claim.id}.png"
    draw(finding.claim, court.results(finding.claim), path)
    Image.open(path).convert("RGB").quantize(COLORS).save(path, optimize=True)


def page(name: str, findings: list[Finding]) -> str:
    """What stands above the table already, the table, and each section with its figure."""
    path = DOCS / f"{name}.md"
    head, _, _ = path.read_text(encoding="utf-8").partition("\n| |")
    text = presentation.page(findings)
    for finding in findings:
        if _has_curves(finding):
            own, file = finding.claim.id, f"../{HERE}/{finding.claim.id}.png"
            text = re.sub(rf"(?m)^## {own}\n", f"## {own}\n\n![Curves of {own}]({file})\n", text)
    return f"{head}\n{text}\n"


def _has_curves(finding: Finding) -> bool:
    return any(case.specs for case in finding.claim.cases)


def main() -> None:
    court = Court(Path(sys.argv[1]), "cpu", warnings.warn)
    for name, papers in RECORDS.items():
        findings = settled(court, papers)
        document = json.dumps(presentation.document(findings), indent=2, allow_nan=False)
        (HERE / f"{name}.json").write_text(document + "\n", encoding="utf-8")
        for finding in filter(_has_curves, findings):
            drawn(court, finding)
        (DOCS / f"{name}.md").write_text(page(name, findings), encoding="utf-8")


if __name__ == "__main__":
    main()
