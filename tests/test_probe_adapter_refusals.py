"""What of models with caches, and of caches, is refused in one line."""

from typing import Any

import pytest
from cached_models import ABSENT, WIDTH, built, hf, known, ordinary
from cached_models import seeded as seeded  # it acts on every test
from probing import random, reads

from seqlab.errors import InputError
from seqlab.probes.adapters import adapted
from seqlab.probes.callables import of_module
from seqlab.probes.steps import walk

torch = pytest.importorskip("torch", reason=ABSENT.format("PyTorch"))

import transformers.models.mamba.modeling_mamba as of_mamba  # noqa: E402


def refused(*given: Any) -> str:
    with pytest.raises(InputError) as error:
        walk(*given)
    return str(error.value)


def test_other_models_have_no_adapter() -> None:
    assert adapted(torch.nn.LSTM(3, 6), random(5, 1, 3)) is None
    assert adapted(lambda x, h: h, random(5, 1, 3)) is None


@pytest.mark.parametrize(
    ("name", "x", "said"),
    [
        ("MambaModel", random(2, 5, 3), "(2, 5, 3) of float64' is not allowed; (sequences, steps"),
        ("MambaModel", random(5, 4), "(5, 4) of float64' is not allowed; (sequences, steps, 4) of"),
        ("Mamba", torch.ones(2, 5, dtype=int), "(2, 5) of int64' is not allowed; (sequences, st"),
    ],
)
def test_inputs_of_another_form_are_refused(name: str, x: Any, said: str) -> None:
    with pytest.raises(InputError) as error:
        adapted(built(name), x)
    assert str(error.value).startswith(f"x: '{said}")


def test_a_cache_without_an_adapter_is_refused() -> None:
    net, x = built("MambaModel"), random(1, 5, WIDTH)
    cache = ordinary(net, x)[1]
    own = of_module(lambda x, cache: (ordinary(net, x, cache=cache)[0][:, None], cache), 1)
    said = refused(own, x, cache, reads(1.0), [5])
    assert said.startswith("state: 'DynamicCache' is not allowed; tensors are needed, or tuples")
    said = refused(known(net, x), x, hf.DynamicCache(config=net.config), reads(1.0), [5])
    filled = hf.DynamicCache([(random(1, 1, 5, 2), random(1, 1, 5, 2))])  # of attention
    assert said == refused(known(net, x), x, filled, reads(1.0), [5])
    assert said == "state: 'DynamicCache' is not allowed; a cache that has seen a step is needed"


@pytest.mark.parametrize("constant", [True, False])
def test_a_cache_that_a_model_keeps_in_itself_is_refused(constant: bool) -> None:
    class Own(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = built("MambaModel")
            self.cache = None

        def forward(self, x: Any, state: Any) -> Any:
            y, self.cache = ordinary(self.net, x, cache=self.cache)
            return y[:, None], state

    x = torch.ones(1, 5, WIDTH).double() if constant else random(1, 5, WIDTH)
    said = refused(of_module(Own(), 1), x, random(1, 4), reads(1.0), [5])
    assert said.startswith("module: 'another output at its second call' is not allowed; equal")


def test_kernels_past_autograd_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    real = of_mamba.mamba_selective_state_update

    def fused(state: Any, *given: Any, **options: Any) -> Any:
        with torch.no_grad():
            after = state.clone()
            y = real(after, *given, **options)
            state.data.numpy()[:] = 0.5
        return y

    monkeypatch.setattr(of_mamba, "mamba_selective_state_update", fused)
    net, x = built("MambaModel"), random(1, 5, WIDTH)
    said = refused(known(net, x), x, None, reads(1.0), [5])
    assert said.startswith("module: 'a cache that is written past autograd' is not allowed; fused")


def test_gradient_checkpointing_is_refused() -> None:
    net, x = built("MambaModel").train(), random(1, 5, WIDTH)
    state = known(net, x).first(x)
    net.activation_checkpointing_enable()
    for given in (None, state):
        said = refused(known(net, x), x, given, reads(1.0), [5])
        assert said.endswith("gradient checkpointing must be off")


@pytest.mark.parametrize("name", ["MambaModel", "Mamba"])
def test_states_of_another_form_are_refused(name: str) -> None:
    net, x = built(name), random(1, 5, WIDTH)
    state = known(net, x).first(x)
    for wrong in (state[:1], state[0][0], [layer[:1] for layer in state], object()):
        said = refused(known(net, x), x, wrong, reads(1.0), [5])
        assert said.startswith(f"state: '{type(wrong).__name__}' is not allowed; a cache, or (ssm")


def test_another_transformers_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    net = built("MambaModel")
    monkeypatch.setattr(net, "forward", lambda input_ids, cache_params: None)
    with pytest.raises(InputError, match=r"transformers 5\.24 or later is needed"):
        adapted(net, random(1, 5, WIDTH))
