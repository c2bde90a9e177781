"""Parameters under the names that PyTorch's modules and their checkpoints give them.

`nn.LSTM` says `weight_ih_l0` for the `weight_ih` of its first layer, a model that has such a layer
says `encoder.rnn.weight_ih_l0`, and with `bias=False` there are no biases.
"""

import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from seqlab.cells import Cell, Sizes
from seqlab.errors import InputError
from seqlab.wording import did_you_mean, short_repr

BIASES = ("bias_ih", "bias_hh")  # zeros where both are left out
_PROJECTION = "weight_hr"  # of nn.LSTM with proj_size
_MOST_TOLD = 8


class _Part(NamedTuple):
    """A name taken apart: its module, the cell's own name of the parameter, and PyTorch's suffix
    for layer and direction (`_l0`, `_l1_reverse`; nothing in `nn.LSTMCell`)."""

    name: str
    module: str
    own: str
    layer: str


def own_names(cell: Cell) -> tuple[str, ...]:
    """The cell's parameters as `seqlab.cells` calls them."""
    return tuple(cell.shapes(Sizes(1, 1, 1)))


def of_dictionary(cell: Cell, names: Iterable[str]) -> dict[str, str]:
    """The name that each of the cell's parameters was given under; biases may be left out.

    Those of several layers, the first of which is `_l0`, keep that ending in the cell's names too;
    see `layers_in`. Raises InputError where the names are not those of one direction, or of layers
    between which one is missing, with how to pick one.
    """
    return _Names(cell, tuple(names), None).find(None)


def of_file(cell: Cell, names: Iterable[str], path: str, module: str | None) -> dict[str, str]:
    """The same for the arrays of the file at `path`, or of one module of all in it."""
    return _Names(cell, tuple(names), path).find(module)


def layers_in(own: Iterable[str]) -> int:
    """How many layers the cell's own names, as `of_dictionary` gives them, are of."""
    found = [int(match[1]) for name in own if (match := re.search(r"_l(\d+)$", name))]
    return max(found, default=0) + 1


@dataclass(frozen=True)
class _Names:
    cell: Cell
    names: tuple[str, ...]
    path: str | None

    def find(self, module: str | None) -> dict[str, str]:
        parts = [part for name in self.names if (part := self._part(name)) is not None]
        home = self._home(parts, module)
        mine = [part for part in parts if part.module == home]
        self._check_layers(mine)
        for index, part in enumerate(mine):
            if (part.own, part.layer) in ((other.own, other.layer) for other in mine[:index]):
                raise self._stranger(part.name, home)
        known = {part.name for part in mine}
        for name in self.names:
            if name not in known and (module is None or name.rpartition(".")[0] == home):
                raise self._stranger(name, home)
        layers = list(dict.fromkeys(part.layer for part in mine)) or [""]
        found: dict[str, str] = {}
        for layer in sorted(layers, key=_place):
            end = layer if len(layers) > 1 else ""
            given = {part.own: part.name for part in mine if part.layer == layer}
            self._check_whole(given, end)
            found |= {f"{own}{end}": given[own] for own in own_names(self.cell) if own in given}
        return found

    def _check_whole(self, given: Collection[str], end: str) -> None:
        """Refuse a layer that lacks a parameter."""
        own = own_names(self.cell)
        optional = () if set(given) & set(BIASES) else BIASES
        if lacking := [name for name in own if name not in given and name not in optional]:
            names = ", ".join(f"{name}{end}" for name in lacking)
            raise InputError(
                f"{self._where} lacks {names} of {self.cell.name}; "
                f"{', '.join(f'{name}{end}' for name in own)} are needed"
            )

    @property
    def _where(self) -> str:
        return "params:" if self.path is None else f"params: {self.path}"

    def _at(self, name: str) -> str:
        comma = "" if self.path is None else ","
        return f"{self._where}{comma} {short_repr(name)}"

    def _part(self, name: str) -> _Part | None:
        own, layer = [*own_names(self.cell)], r"(?:_l\d+)?"
        if self.cell.names_of == "PyTorch":
            own, layer = [*own, _PROJECTION], r"(?:_l\d+(?:_reverse)?)?"
        # A layer within the cell is a module of its own, and its parameter `in_proj.weight` too.
        spelled = (re.sub("_(weight|bias)$", r"[._]\1", each) for each in own)
        pattern = rf"(?:(.*)\.)?({'|'.join(spelled)})({layer})"
        match = re.fullmatch(pattern, name, re.DOTALL)
        return match and _Part(name, match[1] or "", match[2].replace(".", "_"), match[3])

    def _home(self, parts: Sequence[_Part], module: str | None) -> str:
        """The module whose parameters are meant."""
        modules = list(dict.fromkeys(part.module for part in parts))
        if module is None:
            if len(modules) > 1:
                raise InputError(f"{self._where} holds several modules, {self._pick(modules)}")
            return modules[0] if modules else ""
        inside = [name for name in modules if name == module]
        inside = inside or [name for name in modules if name.startswith(f"{module}.")]
        if len(inside) == 1:
            return inside[0]
        what = f"several {self.cell.name}" if inside else f"no {self.cell.name}"
        raise InputError(
            f"module: {short_repr(module)} holds {what} in {self.path}; "
            f"allowed: {_list_modules(inside or modules)}"
        )

    def _pick(self, modules: Sequence[str]) -> str:
        """What there is to choose from, and how to choose."""
        if self.path is not None:
            return f"of which module chooses one: {_list_modules(modules)}"
        first = next(filter(None, modules)) + "."
        return (
            f"{_list_modules(modules)}; one is allowed, such as "
            f"{{k: v for k, v in params.items() if k.startswith({first!r})}}"
        )

    def _check_layers(self, parts: Sequence[_Part]) -> None:
        """Refuse the direction back in time, a projection, and layers that are not all there."""
        layers = sorted({part.layer for part in parts}, key=_place)
        whole = len(layers) < 2 or layers == [f"_l{layer}" for layer in range(len(layers))]
        odd = [p.name for p in parts if p.own == _PROJECTION or p.layer.endswith("_reverse")]
        odd = odd or [part.name for part in parts if not whole and part.layer == layers[-1]]
        if not odd:
            return
        allowed = "one layer, or all from _l0 up, of one direction and without proj_size"
        if forward := [each for each in layers if re.fullmatch(r"_l\d+", each)]:
            held = "params" if self.path is None else "state_dict"
            allowed += (
                f", such as {{k: v for k, v in {held}.items() if k.endswith({forward[0]!r})}}"
            )
        raise InputError(f"{self._at(odd[0])} is not allowed; {allowed}, is needed")

    def _stranger(self, name: str, home: str) -> InputError:
        """A name that is not of the cell."""
        own = own_names(self.cell)
        known = f"; it holds a module, {self._pick([home])}" if home else did_you_mean(name, own)
        if self.path is not None:
            known = known or f"; its parameters are {', '.join(own)}"
            return InputError(f"{self._at(name)} is not of {self.cell.name}{known}")
        return InputError(
            f"{self._at(name)} is not allowed; {self.cell.name} has {', '.join(own)}{known}"
        )


def _place(layer: str) -> tuple[int, str]:
    """Layers in their order, `_l10` after `_l9`."""
    return int("".join(filter(str.isdecimal, layer)) or 0), layer


def _list_modules(modules: Sequence[str]) -> str:
    """Modules as a message lists them, not all of many."""
    names = [short_repr(name) if name else "(top)" for name in modules[:_MOST_TOLD]]
    return ", ".join([*names, "..."] if len(modules) > _MOST_TOLD else names) or "none"
