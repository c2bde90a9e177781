"""The networks that are probed together: modules that were given, or one that is drawn anew."""

import copy
from collections.abc import Callable, Sequence
from typing import Any

from seqlab.probes.callables import modules_of, name_of
from seqlab.probes.states import State, Tensor, each, is_tensor
from seqlab.values import named
from seqlab.wording import one_of, refuse

DTYPES = ("float64", "float32")


def networks_of(net: Any, networks: int | None, reset: Callable[[Any], object] | None) -> list[Any]:
    """A list of networks as it is, of one module that alone, or `networks` copies of it: `reset`
    draws a copy's parameters in place, copy m after `torch.manual_seed(m)`.

    PyTorch's random state is as before. Raises InputError for an empty list, networks without
    reset, and a reset that draws the same numbers again.
    """
    import torch

    if isinstance(net, list | tuple):
        if networks is not None or reset is not None:
            raise refuse("networks", networks, f"none beside a list of {len(net)} networks")
        if not net:
            raise refuse("net", net, "a list of one network or more")
        return list(net)
    if networks is None and reset is None:
        return [net]
    if isinstance(networks, bool) or not isinstance(networks, int) or networks < 1:
        raise refuse("networks", networks, "beside reset, a whole number from 1 up")
    if not callable(reset):
        raise refuse("reset", reset, "beside networks, a function that draws a module's parameters")
    if not modules_of(net):
        raise refuse("net", name_of(net), "a module to draw networks of, or a list of networks")
    drawn = []
    with torch.random.fork_rng():
        for m in range(networks):
            torch.manual_seed(m)
            drawn.append(_copied(net))
            reset(drawn[-1])
    if networks > 1 and not _differ(*drawn[:2]):
        raise refuse("reset", name_of(reset), "it must draw the parameters anew, in place")
    return drawn


def _copied(net: Any) -> Any:
    """A copy, also of a module that holds tensors it has computed, as it does with weight norm."""
    computed: dict[int, Any] = {}
    for module in modules_of(net):
        values = list(vars(module).values())
        values += [each for value in values if isinstance(value, list) for each in value]
        for tensor in filter(is_tensor, values):
            if not tensor.is_leaf:
                computed[id(tensor)] = tensor.detach().clone()
    return copy.deepcopy(net, computed)


def _differ(one: Any, other: Any) -> bool:
    import torch

    pairs = zip(_numbers(one), _numbers(other), strict=True)
    return any(not torch.equal(a, b) for a, b in pairs)


def _numbers(net: Any) -> list[Tensor]:
    module = modules_of(net)[0]
    return [*module.parameters(), *module.buffers()]


def dtype_named(dtype: Any) -> str | None:
    """A dtype of PyTorch's, NumPy's or by its name. Raises InputError for others than these two."""
    name = None if dtype is None else named(getattr(dtype, "__name__", dtype))
    if name not in (None, *DTYPES):
        raise refuse("dtype", name, one_of(DTYPES))
    return name


def in_dtype(net: Any, dtype: str) -> Any:
    """A copy of a network in another dtype; the network itself where it is in it.

    Raises InputError for a function, whose tensors are its own.
    """
    import torch

    modules = modules_of(net)
    if not modules:
        raise refuse("dtype", dtype, "a module, whose parameters can be copied in another one")
    wanted = getattr(torch, dtype)
    if all(one.dtype == wanted for one in _numbers(net) if one.is_floating_point()):
        return net
    copied = _copied(net)
    modules_of(copied)[0].to(wanted)
    for module in modules_of(copied):  # and what is neither parameter nor buffer
        vars(module).update(
            {
                name: tensors_in_dtype(held, dtype)
                for name, held in vars(module).items()
                if is_tensor(held)
            }
        )
    return copied


def tensors_in_dtype(value: State, dtype: str) -> State:
    """Tensors in any form, those of floating point in another dtype."""
    import torch

    wanted = getattr(torch, dtype)
    return each(value, lambda tensor: tensor.to(wanted) if tensor.is_floating_point() else tensor)


def of_one_kind(nets: Sequence[Any]) -> None:
    """Refuse networks of several classes or sizes, whose curves no ensemble has."""
    kinds = dict.fromkeys(type(net).__name__ for net in nets)
    if len(kinds) > 1:
        raise refuse("net", ", ".join(kinds), "networks of one class")
    first, *others = map(_form, nets)
    for m, form in enumerate(others, 1):
        if odd := [key for key in first | form if form.get(key) != first.get(key)]:
            raise refuse("net", f"{odd[0]} of network {m}", "the same form as network 0 has it")


def _form(net: Any) -> dict[str, object]:
    """What networks of one ensemble have in common."""
    if not (modules := modules_of(net)):
        return {}
    options = {
        f"{place}.{option}".lstrip("."): getattr(module, option, None)
        for place, module in modules[0].named_modules()
        for option in ("batch_first", "nonlinearity")
    }
    held = [*modules[0].named_parameters(), *modules[0].named_buffers()]
    return options | {name: (tuple(one.shape), one.dtype) for name, one in held}
