"""Clip rules: how they are spelled, and that each one acts wherever it should."""

import clips
import naive
import naive_rules
import numpy as np
import pytest
from drawn import ARCHS, answers, draw

import seqlab
from seqlab import rules
from seqlab.errors import InputError
from seqlab.kernels import layout
from seqlab.rules import Acts, Kind, Rule

pytestmark = pytest.mark.tiny


def test_spellings() -> None:
    assert rules.SPELLINGS == "none, norm:c, value:c, step-norm:c, step-value:c, truncate:k"
    for clip in ("none", *clips.biting()):
        assert str(rules.parse(clip)) == clip
    for long, short in (("norm:1.0", "norm:1"), (" truncate:1e2 ", "truncate:100")):
        assert str(rules.parse(long)) == short
    for kind in ("stepnorm", "", "none:1", None):
        with pytest.raises(InputError, match=r"^clip: .* is not a rule; allowed: none, norm:c"):
            Rule(kind, 1.0)


def test_every_rule_has_its_place() -> None:
    """In the naive reference, and by the number that kernels know it by."""
    assert set(rules.AFTER) == naive_rules.AFTER.keys()
    assert set(rules.IN_CHAIN) == naive_rules.IN_CHAIN.keys()
    numbers = {name: layout.Clip.of(rules.parse(clips.biting([name])[0])).code
               for name in rules.IN_CHAIN}  # fmt: skip
    assert len({layout.NONE, *numbers.values()}) == 1 + len(numbers)
    for clip in ("none", *clips.biting(rules.AFTER)):
        assert layout.Clip.of(rules.parse(clip)).code == layout.NONE


@pytest.mark.parametrize("arch", ARCHS)
@pytest.mark.parametrize("clip", clips.biting())
def test_every_rule_changes_what_it_should(arch: str, clip: str) -> None:
    """In the chain what reaches the input; after it parameter gradients alone. How, other tests
    compare with the naive reference."""
    run = draw(arch)
    free, clipped = answers(run), answers(run, clip=clip)
    changed = {name for name in free if not np.array_equal(free[name], clipped[name])}
    if rules.parse(clip).in_chain:
        assert "x" in changed
    else:
        assert changed
        assert changed <= run.params.keys()


@pytest.mark.parametrize("acts", [Acts.IN_CHAIN, Acts.AFTER])
def test_a_rule_without_an_action_is_not_measured(
    acts: Acts, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A row of the registry and nothing else: an error, never a number without the rule."""
    monkeypatch.setitem(rules.KINDS, "agc", Kind("agc", acts, "c"))
    run = draw("rnn")
    trajectory = seqlab.forward("rnn", run.params, run.x)
    with pytest.raises(NotImplementedError, match=r"^clip: .*agc"):
        seqlab.backward(trajectory, run.grad, "agc:1")
    with pytest.raises(NotImplementedError, match=r"^clip: .*agc"):
        seqlab.run(arch="rnn", steps=3, hidden=2, networks=1, clip="agc:1")
    if acts is Acts.IN_CHAIN:
        with pytest.raises(NotImplementedError, match=r"^clip: .*agc"):
            seqlab.attenuation("rnn", run.params, run.x, [3], "agc:1")
    with pytest.raises(ValueError, match="is no rule"):
        naive.backward("rnn", run.params, run.x, run.grad, clip="agc:1")
    with pytest.raises(AssertionError, match="agc"):
        clips.biting(rules.KINDS.keys() - {"none"})
