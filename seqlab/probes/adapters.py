"""Models whose caches change in place, as steps: mambapy's Mamba and Hugging Face's.

A cache is taken apart into plain tensors, and put together anew around them for every token, so
that nothing of the user's changes. One token at a time, whatever the chunk: mambapy has no other
function of a cache, and transformers 5.24 starts the scan of several tokens from zero.
Classes are known by name; neither package is ever imported.
"""

import inspect
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

from seqlab.errors import InputError
from seqlab.probes.callables import Steps, of_cell
from seqlab.probes.states import Part, State, Tensor, is_tensor
from seqlab.values import named
from seqlab.wording import refuse

_KINDS = ("ssm", "conv")
_MAMBAPY = {f"mambapy.mamba.{name}" for name in ("Mamba", "ResidualBlock", "MambaBlock")}
_HUGGING_FACE = {
    f"transformers.models.{family}.modeling_{family}.{name}{kind}"
    for family, name in (("mamba", "Mamba"), ("mamba2", "Mamba2"), ("falcon_mamba", "FalconMamba"))
    for kind in ("Model", "ForCausalLM")
}


def adapted(net: Any, x: Tensor) -> Steps | None:
    """The steps of a Mamba of mambapy or of Hugging Face's transformers; None for other models.

    mambapy 1.2: `Mamba` and its blocks; transformers 5.24: `Mamba`, `Mamba2` and `FalconMamba`,
    as model and as language model. x is (B, T, width) floats, or (B, T) whole numbers for an
    embedding. The output is what the model returns: hidden states or logits.

    The state is a list of (ssm, conv) for each layer, zero at the start: the scan's state, and the
    inputs that the convolution still sees. A cache of the library's own is taken too. Parts are
    `layer 0 ssm`, `layer 0 conv` and so on. At lag 0 only the scan's states have a gradient: what
    the convolution sees of a step is not read from the state that it leaves.

    transformers casts to float32 in places, whatever the weights are; here what is float64 stays
    so. Raises InputError for another x, for a transformers before 5.24's kind of cache, and, when
    run, where a cache is written past autograd, as fused kernels do.
    """
    names = {f"{base.__module__}.{base.__name__}" for base in type(net).__mro__}
    if names & _HUGGING_FACE:
        return _of_hugging_face(net, x)
    if names & _MAMBAPY:
        return _of_mambapy(net, x)
    return None


def _steps(
    net: Any,
    one: Callable[[Tensor, State], tuple[Tensor, State]],
    first: Callable[[Tensor], State],
    apart: Callable[[State], State],
    layers: int,
) -> Steps:
    def checked(state: State) -> State:
        pairs = apart(state)
        nest = isinstance(pairs, list | tuple) and len(pairs) == layers
        if not (nest and all(isinstance(p, list | tuple) and len(p) == 2 for p in pairs)):
            needed = f"a cache, or (ssm, conv) for each layer, of {layers} is needed"
            raise refuse("state", type(state).__name__, needed)
        return pairs

    return replace(
        of_cell(one, time=1),
        modules=tuple(net.modules()),
        parts=_parts,
        first=first,
        sequences=0,
        apart=checked,
    )


def _parts(state: State) -> list[Part]:
    return [
        Part(f"layer {i} {kind}" if len(state) > 1 else kind, tensor.numel())
        for i, layer in enumerate(state)
        for kind, tensor in zip(_KINDS, layer, strict=True)
    ]


def _check(x: Tensor, width: int, embedding: bool = False) -> None:
    """Refuse an input that the model does not take."""
    if x.is_floating_point():
        fits = x.dim() == 3 and x.shape[2] == width
    else:
        fits = embedding and x.dim() == 2
    if not fits:
        ways = [f"(sequences, steps, {width}) of floats"]
        ways += ["(sequences, steps) of whole numbers"] * embedding
        given = f"{tuple(x.shape)} of {named(x.dtype)}"
        raise refuse("x", given, f"{' or '.join(ways)} is needed")


def _of_mambapy(net: Any, x: Tensor) -> Steps:
    alone = not hasattr(net, "layers")
    blocks = [getattr(net, "mixer", net)] if alone else [layer.mixer for layer in net.layers]
    _check(x, blocks[0].config.d_model)

    def zeros(block: Any, count: int) -> tuple[Tensor, Tensor]:
        sizes, weight = block.config, block.in_proj.weight
        scan = weight.new_zeros(count, sizes.d_inner, sizes.d_state)
        return scan, weight.new_zeros(count, sizes.d_inner, sizes.d_conv - 1)

    def one(x: Tensor, state: State) -> tuple[Tensor, State]:
        if not alone:
            return net.step(x, list(state))
        y, after = net.step(x, state[0])
        return y, [after]

    def apart(state: State) -> State:
        if alone and isinstance(state, tuple):
            return [state]
        if not isinstance(state, list | tuple) or len(state) != len(blocks):
            return state
        return [
            (zeros(block, len(layer[1]))[0], layer[1]) if layer[0] is None else layer
            for block, layer in zip(blocks, state, strict=True)
        ]

    def first(x: Tensor) -> State:
        return [zeros(block, len(x)) for block in blocks]

    return _steps(net, one, first, apart, len(blocks))


def _of_hugging_face(net: Any, x: Tensor) -> Steps:
    if "cache" not in inspect.signature(net.forward).parameters:
        raise refuse("module", type(net).__name__, "transformers 5.24 or later is needed")
    _check(x, net.config.hidden_size, embedding=True)

    def call(x: Tensor, cache: "_Cache | None") -> Any:
        given = {"inputs_embeds" if x.is_floating_point() else "input_ids": x}
        return net(**given, cache=cache, use_cache=True, return_dict=True)

    def one(x: Tensor, state: State) -> tuple[Tensor, State]:
        around = _Cache(state)
        with _writes_caught()(around):
            y = call(x.unsqueeze(1), around)[0]
        return y[:, -1], around.after()

    def first(x: Tensor) -> State:
        import torch

        with torch.no_grad(), _writes_caught()(_Cache([])):
            made = call(x[:, :1], None).cache
        if made is None:
            raise _unseen()
        return [tuple(map(torch.zeros_like, layer)) for layer in taken_apart(made)]

    return _steps(net, one, first, taken_apart, net.config.num_hidden_layers)


def taken_apart(state: State) -> State:
    """The tensors of a cache of transformers; a state that is no such cache as it is."""
    layers = getattr(state, "layers", None)
    if layers is None:
        return state
    if not all(is_tensor(getattr(layer, "recurrent_states", [None])[0]) for layer in layers):
        raise refuse("state", type(state).__name__, "a cache that has seen a step is needed")
    return [(layer.recurrent_states[0], layer.conv_states[0]) for layer in layers]


@dataclass
class _Write:
    tensor: Tensor
    value: Tensor | None = None


class _Cache:
    """What a model of transformers asks of its cache for one more token."""

    def __init__(self, state: State) -> None:
        self._layers = [[_Write(tensor) for tensor in layer] for layer in state]
        self._written = {id(write.tensor): write for layer in self._layers for write in layer}

    def get_recurrent_state(self, layer: int, state_idx: int = 0) -> Tensor:
        return self._layers[layer][0].tensor

    def get_conv_state(self, layer: int, state_idx: int = 0) -> Tensor:
        return self._layers[layer][1].tensor

    def is_recording_past(self, layer: int) -> bool:
        return False

    def write(self, tensor: Tensor, value: Tensor) -> bool:
        """Whether the tensor is of this cache; then the value is its new one."""
        found = self._written.get(id(tensor))
        if found is not None:
            found.value = value.to(tensor.dtype)
        return found is not None

    def after(self) -> State:
        if any(write.value is None for write in self._written.values()):
            raise _unseen()
        return [tuple(write.value for write in layer) for layer in self._layers]


def _unseen() -> InputError:
    return refuse(
        "module",
        "a cache that is written past autograd",
        "fused kernels (mamba_ssm, causal_conv1d, kernels of the hub) and gradient checkpointing "
        "must be off",
    )


@cache
def _writes_caught() -> Any:
    """A context in which a cache's tensors keep their values, and float64 its digits.

    A model reads its state before it writes the new one over it. Autograd would refuse to go back
    through that, and would see the output as no function of the copy that stays in the cache.
    """
    import torch
    from torch.overrides import TorchFunctionMode

    class Caught(TorchFunctionMode):  # type: ignore[misc]  # a base of type Any
        def __init__(self, around: _Cache) -> None:
            super().__init__()
            self._around = around

        def __torch_function__(
            self, func: Any, types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            if func is torch.Tensor.copy_ and self._around.write(*args[:2]):
                return args[0]
            wide = args and is_tensor(args[0]) and args[0].dtype == torch.float64
            if wide and func is torch.Tensor.float:
                return args[0]
            if wide and func is torch.Tensor.to:
                args = [torch.float64 if value is torch.float32 else value for value in args]
                kwargs = {
                    key: torch.float64 if value is torch.float32 else value
                    for key, value in (kwargs or {}).items()
                }
            return func(*args, **(kwargs or {}))

    return Caught
