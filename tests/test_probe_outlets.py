"""A watch in training: its numbers, what it leaves alone, and its figure."""

import copy
import csv
import math
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from watched import NAMES, Dropping
from watched import seeded as seeded  # it acts on every test

import seqlab
from seqlab.errors import InputError, Note
from seqlab.probes.outlets import MOST_CURVES, Seen, _numbers

torch = pytest.importorskip("torch", reason="PyTorch is not installed (the extra `peers`)")
nn = torch.nn

STEPS, LIMIT = 12, 2.0


def train(net: Any, watch: Any, steps: int = STEPS, clip: Any = None) -> list[bytes]:
    """Plain training by noise; `clip` acts after the watch has looked. The weights at the end."""
    optimiser = torch.optim.SGD(net.parameters(), lr=0.3)
    for _ in range(steps):
        y = net(torch.randn(6, 4, 3))[0]
        (y * torch.randn(y.shape)).sum().backward()
        if watch is not None:
            watch.on_step()
        if clip is not None:
            clip(net)
        optimiser.step()
        optimiser.zero_grad()
    return [value.numpy().tobytes() for value in net.state_dict().values()]


def by_hand(curve: Any) -> tuple[float, float]:
    """Rate and horizon of the curve of one loss, (lags,) natural logs."""
    horizon = math.inf
    for lag, value in enumerate(curve):
        if value - curve[0] < math.log(1e-3):
            horizon = lag
            break
    return (curve[-1] - curve[0]) / (len(curve) - 1), horizon


@pytest.mark.parametrize("make", [lambda: nn.LSTM(3, 5), Dropping], ids=["kernels", "modules"])
def test_numbers_are_the_curve_s_at_that_moment(make: Any) -> None:
    net, x, said = make(), torch.randn(40, 2, 3), []
    watch = seqlab.Watch(net, x, interval=5, log=lambda numbers, step: said.append((numbers, step)))
    moments: list[Any] = []
    train(net, watch, clip=lambda net: moments.append(copy.deepcopy(net)))
    watch.finish()
    assert [seen.step for seen in watch.history] == [0, 5, 10, STEPS]
    for seen in watch.history:
        wanted = seqlab.probe([*moments, net][seen.step].eval(), x).log_norm[0, 0]
        assert seen.attenuation is not None
        np.testing.assert_array_equal(seen.attenuation.log_norm[0, 0], wanted)
        rate, horizon = by_hand(wanted)
        # The same division of the same difference.
        assert seen.rate == pytest.approx(rate, rel=4e-16)
        assert seen.horizon == horizon
    assert [step for _, step in said] == [0, 5, 10, STEPS]
    assert [list(numbers) for numbers, _ in said] == [NAMES[:2]] * 4  # no rule, no share of it
    assert [numbers["seqlab/rate"] for numbers, _ in said] == [s.rate for s in watch.history]
    assert all(seen.seconds > 0 for seen in watch.history)
    assert repr(watch).startswith(f"Watch of {type(net).__name__}: 4 probes, ")


def test_training_has_the_same_bits_and_modes() -> None:
    def trained(watched: bool) -> tuple[list[bytes], Any, list[bool]]:
        torch.manual_seed(11)
        net = Dropping()
        net.norm.eval()  # one of them frozen, which it stays
        watch = seqlab.Watch(net, torch.ones(9, 2, 3), interval=1, check=5) if watched else None
        weights = train(net, watch, clip=lambda net: nn.utils.clip_grad_norm_(net.parameters(), 1))
        modes = [module.training for module in net.modules()]
        return weights, torch.get_rng_state().tolist(), modes

    assert trained(watched=True) == trained(watched=False)


def clips_of_pytorch(rule: str, net: Any) -> bool:
    """Whether PyTorch's own clipping changes a gradient."""
    before = [p.grad.clone() for p in net.parameters() if p.grad is not None]
    kind, _, limit = rule.partition(":")
    clip = nn.utils.clip_grad_norm_ if kind == "norm" else nn.utils.clip_grad_value_
    clip(net.parameters(), float(limit))
    after = [p.grad for p in net.parameters() if p.grad is not None]
    return not all(map(torch.equal, before, after))


@pytest.mark.parametrize("rule", ["norm:28", "value:13"])
def test_the_share_of_clipped_steps_is_what_pytorch_clips(rule: str) -> None:
    net, acted = Dropping(), []
    watch = seqlab.Watch(net, torch.ones(9, 2, 3), interval=10, clip=rule)
    train(net, watch, 31, clip=lambda net: acted.append(clips_of_pytorch(rule, net)))
    watch.finish()
    assert 0 < sum(acted) < len(acted)
    wanted = [acted[0], *(np.mean(acted[i : i + 10]) for i in (1, 11, 21))]
    assert [seen.clipped for seen in watch.history[:-1]] == wanted
    assert math.isnan(watch.history[-1].clipped)  # no step since step 30, which was probed
    assert [seen.step for seen in watch.history] == [0, 10, 20, 30, 31]


def test_gradients_of_others_are_given_and_none_are_said_once() -> None:
    net, other = nn.LSTM(3, 5), nn.Parameter(torch.ones(2))
    watch = seqlab.Watch(net, torch.ones(9, 2, 3), interval=1, clip="norm:1")
    with pytest.warns(Note, match="clip: no parameter has a gradient"):
        watch.on_step()
    watch.on_step()
    other.grad = torch.full((2,), 0.9)  # of norm 1.27
    watch.on_step(parameters=[other])
    other.grad = torch.tensor([math.nan, 0.1])  # clipping makes nan of both
    watch.on_step(parameters=[other])
    assert [seen.clipped for seen in watch.history] == [0, 0, 1, 1]


def test_a_rule_inside_the_chain_has_the_share_of_its_steps() -> None:
    net, x, said = nn.GRU(3, 5), torch.randn(30, 1, 3), []
    watch = seqlab.Watch(net, x, clip="truncate:10", log=lambda n, step: said.append(n))
    watch.on_step()
    # A zero is handed to lag 11, of 30, and is none that is cut again at lag 21.
    assert watch.history[0].clipped == pytest.approx(1 / 30)
    assert list(said[0]) == NAMES
    assert said[0]["seqlab/horizon"] <= 11


def test_never_is_inf() -> None:
    net = nn.RNN(3, 5, nonlinearity="relu", bias=False)
    with torch.no_grad():
        net.weight_hh_l0.copy_(torch.eye(5))
        net.weight_ih_l0.fill_(1)
    watch = seqlab.Watch(net, torch.ones(20, 1, 3), name="decoder", log=lambda *said: None)
    watch.on_step()
    assert (watch.history[0].rate, watch.history[0].horizon) == (0, math.inf)


def test_a_curve_that_ends_in_nan_has_not_been_seen_to_stay() -> None:
    found = seqlab.probe(nn.RNN(3, 5, nonlinearity="relu"), torch.ones(20, 1, 3))
    curve = np.where(found.lags > 12, math.nan, 0.0)
    numbers = _numbers(replace(found, log_norm=curve[np.newaxis, np.newaxis]))
    assert numbers[:2] == pytest.approx((math.nan, math.nan), nan_ok=True)
    curve[5:9] = -7  # below e^-6.9
    assert _numbers(replace(found, log_norm=curve[np.newaxis, np.newaxis]))[1] == 5


def test_the_first_updates_have_a_checklist() -> None:
    """Norms by hand in float64 of what PyTorch holds; a change by difference has lost float32's
    digits of the weights, of which it is a hundredth."""
    net, gradients, weights = Dropping(), [], []
    watch = seqlab.Watch(net, torch.ones(9, 2, 3), check=3)

    def look(net: Any) -> None:
        named = {name: p.detach().double() for name, p in net.named_parameters()}
        weights.append({name: p.clone() for name, p in named.items()})
        gradients.append(
            {n: p.grad.double().norm() for n, p in net.named_parameters() if p.grad is not None}
        )

    train(net, watch, 7, clip=look)
    found = {(line.of, line.name): line for line in watch.checks()}
    typical = {name: sorted(one[name].item() for one in gradients[:3])[1] for name in gradients[0]}
    for name, norm in typical.items():
        assert found[name, "gradient norm"].number == pytest.approx(math.log10(norm), abs=1e-5)
    assert ("head.weight", "gradient norm") not in found  # it is not of the loss
    ratios = {}
    for name, value in weights[0].items():
        if value.ndim > 1:
            steps = [
                ((weights[k + 1][name] - weights[k][name]).norm() / weights[k][name].norm()).item()
                for k in range(3)
            ]
            ratios[name] = sorted(steps)[1]
    have = {of: line.number for (of, name), line in found.items() if name == "updates over weights"}
    assert have.keys() == ratios.keys()
    for name, ratio in ratios.items():
        log = math.log10(ratio) if ratio else -math.inf
        assert have[name] == pytest.approx(log, abs=1e-4)
    assert found["head.weight", "updates over weights"].note == "it does not move"


def test_the_last_update_is_seen_at_the_end_and_faults_are_found() -> None:
    net = nn.RNN(3, 5)
    with seqlab.Watch(net, torch.ones(9, 2, 3), check=50) as watch:
        train(net, watch, 1)
    assert any(line.name == "updates over weights" for line in watch.checks())
    head, first, *_ = str(watch.checks()).splitlines()
    assert head.split() == ["number", "rule", "of", "thumb", "verdict"]
    assert first.startswith(watch.checks()[0].of)
    net = nn.RNN(3, 5)
    net.weight_hh_l0.register_hook(lambda g: g * 1e-30)  # whose square is no float32
    watch = seqlab.Watch(net, torch.ones(9, 2, 3), check=2)
    train(net, watch, 3)
    found = {(line.of, line.name): line for line in watch.checks()}
    assert found["weight_hh_l0", "gradient norm"].verdict == "bad"
    assert -33 < found["weight_hh_l0", "gradient norm"].number < -27
    assert found["weight_ih_l0", "gradient norm"].verdict == "ok"
    assert found["weight_hh_l0", "updates over weights"].note == "it does not move"
    assert seqlab.Watch(net, torch.ones(9, 2, 3)).checks() == []
    assert str(seqlab.Watch(net, torch.ones(9, 2, 3)).checks()) == "nothing was seen"
    with pytest.raises(InputError, match=r"^check: -1 is not allowed"):
        seqlab.Watch(net, torch.ones(9, 2, 3), check=-1)


@pytest.mark.parametrize("make", [lambda: nn.LSTM(3, 5), Dropping], ids=["kernels", "modules"])
def test_autocast_in_training_is_not_the_probe_s(make: Any) -> None:
    watch = seqlab.Watch(make(), torch.randn(20, 2, 3), interval=1)
    watch.on_step()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        watch.on_step()
        assert torch.is_autocast_enabled("cpu")
    plain, within = watch.history
    assert plain[1:3] == within[1:3]


def test_names_tell_watches_apart() -> None:
    said: list[Any] = []
    net = nn.RNN(3, 5)
    watch = seqlab.Watch(net, torch.ones(20, 1, 3), name="decoder", log=lambda n, _: said.append(n))
    watch.on_step()
    assert list(said[0]) == ["seqlab/decoder/rate", "seqlab/decoder/horizon"]


def test_a_watch_writes_to_a_run_and_to_a_writer() -> None:
    class Kept:
        """wandb's `Run.log` and TensorBoard's `add_scalar`."""

        def __init__(self) -> None:
            self.said: list[Any] = []

        def log(self, data: Any, step: Any = None, commit: Any = None) -> None:
            self.said += [(name, number, step) for name, number in data.items()]

    class Writer(Kept):
        log = None

        def add_scalar(self, tag: str, scalar_value: float, global_step: Any = None) -> None:
            self.said.append((tag, scalar_value, global_step))

        def add_figure(self, tag: str, figure: Any, global_step: Any = None) -> None:
            raise AssertionError("a watch has its figure in a file")

    net, x = nn.RNN(3, 5), torch.ones(20, 1, 3)
    for target in (Kept(), Writer()):
        watch = seqlab.Watch(net, x, log=target)
        watch.on_step(7)
        seen = watch.history[0]
        assert target.said == [(NAMES[0], seen.rate, 7), (NAMES[1], seen.horizon, 7)]


@pytest.mark.parametrize("make", [lambda: nn.LSTM(3, 5), Dropping], ids=["kernels", "modules"])
def test_weights_that_are_no_numbers_are_nan_and_said_once(make: Any, tmp_path: Path) -> None:
    net, said = make(), []
    watch = seqlab.Watch(
        net,
        torch.ones(60, 2, 3),
        interval=1,
        log=lambda n, _: said.append(n),
        figure=tmp_path / "f.png",
    )
    watch.on_step()
    with torch.no_grad():
        next(net.parameters()).fill_(math.nan)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        watch.on_step()
        watch.on_step()
        watch.finish()
    assert len([one for one in told if issubclass(one.category, Note)]) <= 1
    assert [one for one in told if not issubclass(one.category, Note)] == []
    assert len(said) == 4
    assert all(map(math.isfinite, said[0].values()))
    assert all(math.isnan(value) for numbers in said[1:] for value in numbers.values())
    assert (tmp_path / "f.png").exists()


def test_a_probe_that_fails_in_the_middle_leaves_the_network_as_it_was() -> None:
    net = Dropping()
    watch = seqlab.Watch(net, torch.ones(9, 2, 3))
    net.forward = lambda *given: 1 / 0  # type: ignore[method-assign]
    with pytest.warns(Note, match=r"step 7: the probe failed and is logged as nan: .*ZeroDivision"):
        watch.on_step(7)
    assert watch.history[0][:2] == pytest.approx((7, math.nan), nan_ok=True)
    assert watch.history[0].attenuation is None
    assert all(module.training for module in net.modules())


def test_the_figure_has_first_and_last_and_some_between(tmp_path: Path) -> None:
    net = nn.LSTM(3, 5)
    path = tmp_path / "new" / "reach.svg"
    with seqlab.Watch(net, torch.randn(40, 2, 3), interval=1, figure=path) as watch:
        train(net, watch, 3 * MOST_CURVES)
    with path.with_suffix(".csv").open(encoding="utf-8-sig") as file:
        rows = list(csv.DictReader(file))
    drawn = sorted({int(row["updates"]) for row in rows})
    assert len(drawn) == MOST_CURVES
    assert (drawn[0], drawn[-1]) == (0, 3 * MOST_CURVES)
    last = watch.history[-1].attenuation
    assert last is not None
    decades = (last.log_norm[0, 0] - last.log_norm[0, 0, 0]) / math.log(10)
    found = {int(r["lag"]): float(r["log10_attenuation"]) for r in rows if int(r["updates"]) == 24}
    # The table has 10 digits.
    np.testing.assert_allclose([found[lag] for lag in range(41)], decades, rtol=1e-9, atol=1e-9)
    assert path.stat().st_size > 0


def test_curves_of_training_are_kept_apart_in_a_store(tmp_path: Path) -> None:
    watch = seqlab.Watch(nn.LSTM(3, 5), torch.randn(20, 2, 3), interval=1)
    watch.on_step(5)
    watch.on_step(6)  # the same weights
    for seen in watch.history:
        assert seen.attenuation is not None
        seen.attenuation.save(tmp_path)
    assert sorted(seqlab.load(tmp_path)["updates"]) == [5, 6]


def test_nothing_happens_without_a_step(tmp_path: Path) -> None:
    with seqlab.Watch(nn.LSTM(3, 5), torch.randn(20, 2, 3), figure=tmp_path / "f.pdf") as watch:
        pass
    assert watch.history == []
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({"interval": 0}, "interval: 0 is not allowed; a whole number from 1 up"),
        ({"clip": "norm"}, "clip: 'norm' is not a rule"),
        ({"log": 3}, "log: 3 is not allowed; a function"),
        ({"figure": "reach.txt"}, "figure: 'reach.txt' has no known format"),
        ({"networks": 2}, "networks: 2 is not allowed; one network is watched"),
        ({"lenghts": [3]}, "lenghts: no such option (did you mean lengths?)"),
        ({"lengths": [99]}, "lengths: [99] is not allowed; whole numbers from 1 to 20"),
        ({"every": 3, "clip": "step-norm:1"}, "every: 3 is not allowed"),
        ({"wrt": "state", "dtype": "float16"}, "dtype: 'float16' is not allowed"),
    ],
)
def test_wrong_use_is_refused_before_training(options: dict[str, Any], line: str) -> None:
    with pytest.raises(InputError) as refusal:
        seqlab.Watch(Dropping(), torch.ones(20, 2, 3), **options)
    assert str(refusal.value).startswith(line)
    assert "\n" not in str(refusal.value)


def test_one_network_is_watched_and_a_step_is_a_number() -> None:
    with pytest.raises(InputError, match="net: '2 networks' is not allowed"):
        seqlab.Watch([Dropping(), Dropping()], torch.ones(20, 2, 3))
    with pytest.raises(InputError, match=r"step: 1.5 is not allowed"):
        seqlab.Watch(nn.LSTM(3, 5), torch.ones(20, 2, 3)).on_step(1.5)  # type: ignore[arg-type]


def test_a_row_of_history_has_these_fields() -> None:
    wanted = ("step", "rate", "horizon", "clipped", "seconds", "attenuation")
    assert Seen._fields == wanted
