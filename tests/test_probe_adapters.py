"""Models with caches that change in place, as steps: against their own forward passes, autograd's
own gradients, and a slow product of Jacobians."""

import copy
from contextlib import nullcontext
from typing import Any

import naive_probe
import numpy as np
import pytest
from cached_models import ABSENT, STATES, VOCABULARY, WIDTH, built, known, ordinary
from cached_models import seeded as seeded  # it acts on every test
from naive import Array
from naive_probe_adapters import mamba
from probing import close, random, reads

import seqlab
from seqlab import rules
from seqlab.errors import InputError
from seqlab.probes.steps import Walk, walk

torch = pytest.importorskip("torch", reason=ABSENT.format("PyTorch"))

import mambapy.mamba  # noqa: E402
from torch.overrides import TorchFunctionMode  # noqa: E402

# Each step rounds an adjoint's entries some hundreds of times by 1.1e-16: 300 steps of one sign
# would reach 300 * 300 * 1.1e-16 = 1e-11 nats. Promised:
NEAR = 1e-10
IDS = ("MambaForCausalLM", "FalconMambaForCausalLM", "Mamba2ForCausalLM")
FLOATS = ("MambaModel", "FalconMambaModel", "Mamba2Model", "Mamba", "ResidualBlock", "MambaBlock")
MODELS = (*FLOATS, *IDS)


class Exact(TorchFunctionMode):
    """What the libraries cast to float32 keeps its digits, as a copy: for references."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.Tensor.float or (func is torch.Tensor.to and torch.float32 in args[1:2]):
            return args[0].double().clone()
        return func(*args, **(kwargs or {}))


def inputs(net: Any, sequences: int, steps: int) -> Any:
    if type(net).__name__ in IDS:
        return torch.randint(VOCABULARY, (sequences, steps))
    return random(sequences, steps, WIDTH)


def probed(net: Any, x: Any, readout: Any, every: int = 1, **options: Any) -> Walk:
    lengths = [x.shape[1]]
    return walk(known(net, x), x, None, reads(readout), lengths, every, **options)


def answers(net: Any, x: Any) -> int:
    return VOCABULARY if type(net).__name__ in IDS else WIDTH


def arithmetic(net: Any) -> Any:
    """mambapy rounds A to float32 where the reference does not; transformers' adapter does not."""
    return Exact() if "mambapy" in type(net).__module__ else nullcontext()


@pytest.mark.parametrize("name", MODELS)
def test_steps_end_where_the_ordinary_forward_pass_ends(name: str) -> None:
    net = built(name)
    x = inputs(net, 2, 30)
    steps = known(net, x)
    with torch.no_grad(), Exact():
        wanted = ordinary(net, x)[0]
    with torch.no_grad(), arithmetic(net):
        y = steps.run(x, steps.first(x))[0]
    assert float((y - wanted).abs().max()) < NEAR * float(wanted.abs().max())
    with torch.no_grad():
        near = ordinary(net, x)[0]
        y = steps.run(x, steps.first(x))[0]
    # float32 where the library casts, 30 steps.
    assert float((y - near).abs().max()) < 1e-5 * float(wanted.abs().max())


def by_autograd(net: Any, x: Any, readout: Any) -> Array:
    """Log norms of dL/ds at lags 1 to T, the whole state's and each tensor's, (1 + P, T): from the
    library's own loop of single tokens, begun anew at every lag from leaves."""
    rows = []
    for lag in range(1, x.shape[1] + 1):
        start = x.shape[1] - lag
        with Exact(), torch.autograd.graph.allow_mutation_on_saved_tensors():
            if "mambapy" in type(net).__module__:
                leaves, y = with_mambapy(net, x, start)
            else:
                leaves, y = with_hugging_face(net, x, start)
            found = torch.autograd.grad((y * readout).sum(), leaves)
        norms = [float(gradient.norm()) for gradient in found]
        rows.append(np.log([np.hypot.reduce(norms), *norms]))
    return np.array(rows).T


def with_mambapy(net: Any, x: Any, start: int) -> Any:
    blocks = [layer.mixer for layer in net.layers] if hasattr(net, "layers") else None
    config = (blocks[0] if blocks else getattr(net, "mixer", net)).config
    zeros = (torch.zeros(len(x), config.d_inner, n, dtype=torch.float64) for n in (STATES, 3))
    first = tuple(zeros)
    caches = [first] * len(blocks) if blocks else first
    with torch.no_grad():
        for t in range(start):
            _, caches = net.step(x[:, t], list(caches) if blocks else caches)
    pairs = caches if blocks else [caches]
    pairs = [tuple(t.detach().clone().requires_grad_() for t in pair) for pair in pairs]
    caches = list(pairs) if blocks else pairs[0]
    for t in range(start, x.shape[1]):
        y, caches = net.step(x[:, t], caches)
    return [t for pair in pairs for t in pair], y


def with_hugging_face(net: Any, x: Any, start: int) -> Any:
    with torch.no_grad():
        cache = ordinary(net, x[:, : max(start, 1)])[1]
    leaves = []
    for layer in cache.layers:
        for kept in (layer.recurrent_states, layer.conv_states):
            leaves.append(kept[0].detach().clone() * (start > 0))
            leaves[-1].requires_grad_()
            kept[0] = leaves[-1].clone()
    for t in range(start, x.shape[1]):
        y = ordinary(net, x[:, t : t + 1], cache=cache)[0]
    return leaves, y


@pytest.mark.parametrize("name", MODELS)
def test_the_curve_is_autograds_own_at_the_same_tensors(name: str) -> None:
    net = built(name)
    x = inputs(net, 2, 12)
    readout = random(answers(net, x))
    with arithmetic(net):
        found = probed(net, x, readout)
    curves = np.concatenate([found.log_norm, *found.parts.values()])
    close(curves[:, 1:], by_autograd(net, x, readout), NEAR)
    layers = 1 if "Block" in name else 2
    names = [f"layer {i} {kind}" for i in range(layers) for kind in ("ssm", "conv")]
    assert list(found.parts) == (names if layers > 1 else ["ssm", "conv"])


@pytest.mark.parametrize("name", ["MambaModel", "FalconMambaModel", "Mamba2Model", "Mamba"])
def test_chunks_are_steps(name: str) -> None:
    net, readout = built(name), random(WIDTH)
    x = inputs(net, 1, 100)
    one, ten = (probed(net, x, readout, every) for every in (1, 10))
    close(one.log_norm[:, ::10], ten.log_norm, NEAR)
    for part in one.parts:
        close(one.parts[part][:, ::10], ten.parts[part], NEAR)


def numbers(net: Any) -> list[dict[str, Array]]:
    return [
        {name.removeprefix("mixer."): p.numpy() for name, p in layer.state_dict().items()}
        for layer in net.layers
    ]


@pytest.mark.parametrize("name", ["Mamba", "MambaModel"])
def test_a_long_way_back_is_the_product_of_jacobians(name: str) -> None:
    net, readout = built(name, fast=2.5), random(WIDTH)
    x = inputs(net, 1, 400)
    with arithmetic(net):
        found = probed(net, x, readout)
    ours = name == "MambaModel"
    last = net.norm_f.weight.detach().numpy() if ours else None
    step, parts = mamba(numbers(net), 4 if ours else 3, 1e-5, last)
    gradient = np.concatenate([np.zeros(sum(parts[:-1])), readout.numpy()])
    with np.errstate(divide="ignore"):
        wanted = naive_probe.curves(step, x[0].numpy(), np.zeros(sum(parts)), gradient, parts)
    curves = np.concatenate([found.log_norm, *found.parts.values()])
    close(curves[:, 1:], wanted[:-1, 1:], NEAR)
    assert wanted[0, -1] < -745  # no float64 is so small


def test_one_model_in_both_libraries_has_one_curve() -> None:
    """Also at lag 0, where the output is read from the scan's states alone."""
    ours, theirs = built("MambaModel", 1), built("Mamba", 1)
    theirs.layers.load_state_dict(ours.layers.state_dict())
    x, readout = inputs(ours, 1, 20), random(WIDTH)

    class Normed(mambapy.mamba.Mamba):
        def step(self, x: Any, caches: Any) -> Any:
            y, caches = super().step(x, caches)
            return ours.norm_f(y), caches

    theirs.__class__ = Normed
    one = probed(ours, x, readout)
    with Exact():
        other = probed(theirs, x, readout)
    close(one.log_norm, other.log_norm, NEAR)
    assert np.isneginf(one.parts["conv"][0, 0])


def test_lag_0_is_what_the_output_reads() -> None:
    """One block: dL/dh = W_out^T r * silu(z), times C; x and its convolution by hand."""
    net, readout = built("MambaBlock"), random(WIDTH)
    x = inputs(net, 1, 1)
    with torch.no_grad(), Exact():
        into, gate = net.in_proj(x[0]).chunk(2, dim=-1)
        silu = torch.nn.functional.silu
        u = silu(into * net.conv1d.weight[:, 0, -1] + net.conv1d.bias)
        c = net.x_proj(u)[0, -STATES:]
        wanted = torch.outer((readout @ net.out_proj.weight) * silu(gate[0]), c).norm().log()
        found = probed(net, x, readout)
    assert found.log_norm[0, 0] == pytest.approx(float(wanted), abs=NEAR)


@pytest.mark.parametrize("every", [1, 5])
def test_float32_models_have_their_curve(every: int) -> None:
    """The library's own loop has none: its caches are written over what autograd kept."""
    net, readout = built("MambaModel"), random(WIDTH)
    x = inputs(net, 1, 40)
    wanted = probed(net, x, readout, every)
    net, x, readout = net.float(), x.float(), readout.float()
    found = probed(net, x, readout, every)
    close(found.log_norm, wanted.log_norm, 40 * 300 * 6e-8)  # of one sign
    assert np.isfinite(found.log_norm).all()
    cache = ordinary(net, x[:, :1])[1]
    y = [ordinary(net, x[:, t : t + 1], cache=cache)[0] for t in (1, 2)][1]
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.sum().backward()


@pytest.mark.parametrize("name", ["MambaModel", "Mamba"])
def test_a_cache_of_the_librarys_own_is_a_state_and_stays(name: str) -> None:
    net, readout = built(name), random(WIDTH)
    x = inputs(net, 2, 30)
    with torch.no_grad(), Exact():
        if name == "Mamba":
            cache: Any = [(None, torch.zeros(2, 2 * WIDTH, 3).double()) for _ in net.layers]
            fresh = walk(known(net, x), x, cache, reads(readout), [30])
            assert cache[0][0] is None
            for t in range(10):
                _, cache = net.step(x[:, t], cache)
        else:
            fresh = probed(net, x, readout)
            cache = ordinary(net, x[:, :10])[1]
    before = copy.deepcopy(cache)
    with Exact():
        whole = probed(net, x, readout)
        rest = walk(known(net, x), x[:, 10:], cache, reads(readout), [20])
    close(fresh.log_norm, whole.log_norm, 0)
    close(rest.log_norm, whole.log_norm[:, :21], NEAR)
    pairs = zip(
        *(
            made
            if name == "Mamba"
            else [(la.conv_states[0], la.recurrent_states[0]) for la in made.layers]
            for made in (cache, before)
        ),
        strict=True,
    )
    assert all(torch.equal(*both) for pair in pairs for both in zip(*pair, strict=True))


def test_rules_act_on_each_sequence() -> None:
    net, readout = built("MambaForCausalLM"), random(VOCABULARY)
    x = inputs(net, 2, 30)
    rule = rules.parse("step-norm:0.001")
    both = probed(net, x, readout, rule=rule)
    alone = [probed(net, x[i : i + 1], readout, rule=rule) for i in range(2)]
    joint = np.logaddexp(2 * alone[0].log_norm, 2 * alone[1].log_norm) / 2
    close(both.log_norm, joint, NEAR)
    assert both.fired == alone[0].fired + alone[1].fired > 0


def test_the_public_face_knows_where_their_time_is() -> None:
    """Sequences (B, T) of tokens or floats; a batch taken for time would have other lags."""
    net, x = built("Mamba"), random(2, 12, WIDTH)
    for wrt, lags in (("state", 13), ("input", 12)):
        found = seqlab.probe(net, x, wrt=wrt)
        assert len(found.lags) == lags
        assert np.isfinite(found.log_norm).all()
        with pytest.raises(InputError, match=r"^time: 0 is not allowed; 1, as Mamba has it"):
            seqlab.probe(net, x, wrt=wrt, time=0)
    words = built("MambaForCausalLM")
    tokens = inputs(words, 3, 8)
    found = seqlab.probe(words, tokens, clip="step-norm:1e-9")
    alone = [seqlab.probe(words, row[None], clip="step-norm:1e-9") for row in tokens]
    close(found.fired, np.mean([one.fired for one in alone], axis=0), 1e-15)
    assert 0 < found.fired[0, 0] <= 1
    squares = np.logaddexp.reduce([2 * one.log_norm for one in alone])
    close(found.log_norm, squares / 2, NEAR)
