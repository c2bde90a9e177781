"""Models with caches, of transformers and mambapy, and their own answers;
`seeded` acts on every test of a file that imports it."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from seqlab.probes.adapters import adapted
from seqlab.probes.callables import Steps

ABSENT = "{} is not installed (the extra `peers`)"
torch = pytest.importorskip("torch", reason=ABSENT.format("PyTorch"))
hf = pytest.importorskip("transformers", reason=ABSENT.format("transformers"))
pytest.importorskip("mambapy", reason=ABSENT.format("mambapy"))

import mambapy.mamba  # noqa: E402

WIDTH, STATES, VOCABULARY = 4, 3, 7


@pytest.fixture(autouse=True)
def seeded() -> Iterator[None]:
    threads = torch.get_num_threads()
    with torch.random.fork_rng():
        torch.manual_seed(5)
        torch.set_num_threads(1)
        yield
        torch.set_num_threads(threads)


def built(name: str, layers: int = 2, fast: float | None = None) -> Any:
    """A model with random weights, float64; with `fast`, states that forget about so many nats
    in a step."""
    if name in ("Mamba", "ResidualBlock", "MambaBlock"):
        config = mambapy.mamba.MambaConfig(WIDTH, layers, d_state=STATES)
        net = getattr(mambapy.mamba, name)(config)
    else:
        family = name.removesuffix("Model").removesuffix("ForCausalLM")
        heads = {"num_heads": 4, "head_dim": 2, "n_groups": 1, "chunk_size": 4}
        config = getattr(hf, f"{family}Config")(
            vocab_size=VOCABULARY,
            hidden_size=WIDTH,
            state_size=STATES,
            num_hidden_layers=layers,
            **(heads if family == "Mamba2" else {}),
        )
        net = getattr(hf, name)(config)
    net = net.double().eval()
    with torch.no_grad():
        for name, weights in net.named_parameters():
            if name.endswith(("in_proj.weight", "x_proj.weight")):
                weights.copy_(torch.randn_like(weights) / 2)
            if fast is not None and name.endswith("dt_proj.bias"):
                weights.fill_(np.log(np.expm1(fast)))
    return net


def known(net: Any, x: Any) -> Steps:
    steps = adapted(net, x)
    assert steps is not None
    return steps


def ordinary(net: Any, x: Any, **options: Any) -> Any:
    """The library's own answer: the last output, and the cache where there is one."""
    if "mambapy" in type(net).__module__:
        return net(x)[:, -1], None
    given = {"inputs_embeds" if x.is_floating_point() else "input_ids": x}
    made = net(**given, use_cache=True, **options)
    return made[0][:, -1], made.cache
