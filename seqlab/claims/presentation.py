"""Settled claims as people read them: a table, all that is known of one, a document, a page."""

import math
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from typing import Any

from seqlab.claims.claim import Case, Claim
from seqlab.claims.court import Finding, Number
from seqlab.numbers.estimate import Estimate
from seqlab.report.text import NOISE, WIDTH, fill
from seqlab.study.result import versions
from seqlab.wording import in_links

QUOTED, UNSETTLED, UNMEASURED = "quotation", "not settled here", "not measured"


def verdict(finding: Finding) -> str:
    """What is said of a claim: its verdict, or why there is none."""
    if finding.claim.measured:
        return finding.verdict or UNMEASURED
    return QUOTED if finding.claim.source else UNSETTLED


def unit(claim: Claim, case: Case) -> str:
    """What its numbers are in, steps of time or layers."""
    assert claim.reading is not None
    return in_links(claim.reading.unit, [case.link])


def number(found: Estimate) -> str:
    """A number and the ends of its interval, which are left out where it has none."""
    if found.low == found.high or math.isnan(found.low):
        return _digits(found.value)
    return f"{_digits(found.value)} [{_digits(found.low)}, {_digits(found.high)}]"


def table(findings: Sequence[Finding]) -> str:
    """A claim a paragraph: its sentence, the number of its first case, the verdict."""
    return "\n".join(_brief(finding) for finding in findings)


def _brief(finding: Finding) -> str:
    claim, said = finding.claim, verdict(finding)
    if finding.numbers is not None:
        said = f"{number(finding.numbers[0].found)} {unit(claim, claim.cases[0])}: {said}"
    indent = len(claim.id) + 2
    return f"{fill(f'{claim.id}  {claim.statement}', indent)}\n{fill(' ' * indent + said, indent)}"


def details(finding: Finding) -> str:
    """All that is known of one claim, its commands included."""
    claim = finding.claim
    lines = [fill(f"{claim.id}: {claim.statement}"), fill(_origin(claim)), ""]
    if not claim.measured:
        lines.append(fill(f"{verdict(finding)}: {claim.source or claim.why}"))
        return "\n".join(lines)
    units = unit(claim, claim.cases[0])
    lines.append(fill(f"holds where the number ({units}) is {claim.rule}"))
    for place, case in enumerate(claim.cases):
        lines += ["", *_case(claim, case, finding.numbers[place] if finding.numbers else None)]
    lines += ["", fill(f"verdict: {verdict(finding)}"), fill(claim.reason, 0)]
    if claim.theory:
        lines.append(fill(f"theory: {claim.theory}"))
    return "\n".join(lines)


def _case(claim: Claim, case: Case, own: Number | None) -> Iterator[str]:
    yield fill(case.name if case.said else f"beyond what is said: {case.name}")
    if own is not None:
        theory = "" if own.theory is None else f"; {_beside(claim)} {_digits(own.theory)}"
        yield fill(f"  {number(own.found)} {unit(claim, case)}{theory}")
    for place, command in enumerate(case.commands()):
        yield _for_a_shell("less" if place else "$", command)


def _origin(claim: Claim) -> str:
    return f"{'printed' if claim.paper else 'heard'} in {claim.heard}"


def _beside(claim: Claim) -> str:
    """What the number beside the measured one is."""
    return "printed" if claim.paper else "theory"


def _for_a_shell(mark: str, command: str) -> str:
    """Lines that a shell takes as one, an option and its value on the same."""
    first, *options = command.split(" --")
    lines = [f"  {mark} {first}"]
    for option in options:
        if len(lines[-1]) + len(option) + 3 > WIDTH - 2:
            lines.append(" " * 5)
        lines[-1] += f" --{option}"
    return " \\\n".join(lines)


def document(findings: Iterable[Finding]) -> dict[str, Any]:
    """What `--json` prints: the day, the versions that numbers may depend on, an entry a claim."""
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "versions": versions(),
        "claims": [_entry(finding) for finding in findings],
    }


def _entry(finding: Finding) -> dict[str, Any]:
    claim = finding.claim
    found: dict[str, Any] = {
        "id": claim.id,
        "statement": claim.statement,
        "heard": claim.heard,
        "verdict": verdict(finding),
    }
    if not claim.measured:
        return found | {"source": claim.source or None, "why": claim.why or None}
    cases = [
        {
            "name": case.name,
            "said": case.said,
            "commands": case.commands(),
            **_numbers(finding.numbers[place] if finding.numbers else None),
        }
        for place, case in enumerate(claim.cases)
    ]
    return found | {
        "unit": unit(claim, claim.cases[0]),
        "holds": str(claim.rule),
        "theory": claim.theory,
        "reason": claim.reason,
        "cases": cases,
    }


def _numbers(own: Number | None) -> dict[str, Any]:
    if own is None:
        return {"value": None, "interval": None, "theory": None}
    value, low, high = (one if math.isfinite(one) else str(one) for one in own.found)
    interval = None if math.isnan(own.found.low) else [low, high]
    return {"value": value, "interval": interval, "theory": own.theory}


def page(findings: Sequence[Finding]) -> str:
    """A page in Markdown: a table of all, and a section for each."""
    rows = ["| | said | number | verdict |", "|---|---|---|---|"]
    for finding in findings:
        claim, shown = finding.claim, ""
        if finding.numbers is not None:
            shown = f"{number(finding.numbers[0].found)} {unit(claim, claim.cases[0])}"
        link = f"[{claim.id}](#{claim.id.lower()})"
        rows.append(f"| {link} | {claim.statement} | {shown} | {verdict(finding)} |")
    return "\n".join([*rows, *(line for finding in findings for line in _section(finding))])


def _section(finding: Finding) -> Iterator[str]:
    claim = finding.claim
    yield from ("", f"## {claim.id}", "", f"*{claim.statement}* {_sentence(_origin(claim))}.")
    if not claim.measured:
        yield from ("", f"**{_sentence(verdict(finding))}.** {claim.source or claim.why}")
        return
    yield from ("", f"| case | number | {_beside(claim)} |", "|---|---|---|")
    for place, case in enumerate(claim.cases):
        found, theory = UNMEASURED, ""
        if finding.numbers is not None:
            own = finding.numbers[place]
            found, theory = number(own.found), "" if own.theory is None else _digits(own.theory)
        yield f"| {'' if case.said else 'beyond: '}{case.name} | {found} | {theory} |"
    units = unit(claim, claim.cases[0])
    yield from ("", f"It holds where the number ({units}) is {claim.rule}.")
    yield from ("", f"**{_sentence(verdict(finding))}.** {claim.reason}")
    if claim.theory:
        yield from ("", f"Theory: {claim.theory}.")
    if commands := [command for case in claim.cases for command in case.commands()]:
        yield from ("", "```console", *(f"$ {one}" for one in dict.fromkeys(commands)), "```")


def _digits(value: float) -> str:
    """Three figures; infinities by name, what is rounding as the zero that it is."""
    if not math.isfinite(value):
        return "never" if value == math.inf else str(value)
    if abs(value) < NOISE:
        return "0"
    return f"{value:.1f}" if abs(value) >= 100 else f"{value:#.3g}".rstrip(".")


def _sentence(text: str) -> str:
    return text[0].upper() + text[1:]
