"""Deep stacks: the blocks of each architecture, and what the engine asks of one.

To the engine a stack is a cell without parameters of its own: a layer is a step, and its weights
are what drives it. The state is one sequence's, of all units and rows together, because batch norm
couples inputs and attention couples tokens; so a network has one exponent for all of them.

Sources: residual networks He et al. 2016, in the order in which articles write the branch, alpha
phi(W h), or with the activation first, alpha W phi(h) (He et al. 2016b); DenseNet Huang et al.
2017; Transformers Vaswani et al. 2017, with the norms after the sums or within the branches (Xiong
et al. 2020), as torch.nn.TransformerEncoderLayer has them.
"""

from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

from seqlab.cells.cell import Sizes
from seqlab.layers.parts import Attention, Chain, Linear, Norm, Phi, Residual, flat

ARCHS = ("mlp", "resnet", "densenet", "transformer")
INNER = 4  # units of a Transformer's feed-forward network for each of the model's


@dataclass(frozen=True)
class Stack:
    """An architecture of `depth` blocks of `width` units (densenet: features that each block adds)
    with `rows` inputs or tokens.

    `norm` is none, batch, layer or group:G, of a Transformer always layer; `place` is where it
    stands, before the branch (pre) or after the sum (post); `outside` says that the activation is
    the outermost of a residual branch. `eps` is added to the norms' variances. Of several sequences
    seen together each has so many `tokens`, 0 for one sequence of all rows.
    """

    arch: str
    depth: int
    width: int
    rows: int
    activation: str = "relu"
    norm: str = "none"
    place: str = "pre"
    outside: bool = True
    alpha: float = 1.0
    heads: int = 1
    eps: float = 0.0
    tokens: int = 0

    parts = ("activations",)  # of the state, as a cell has them

    @property
    def name(self) -> str:
        return self.arch

    @property
    def grows(self) -> bool:
        """Whether the state gains features from block to block."""
        return self.arch == "densenet"

    @property
    def units(self) -> int:
        """Of the whole state."""
        return self.width * (self.depth + 1) if self.grows else self.width

    @cached_property
    def block(self) -> Chain:
        """The parts of one block."""
        n, phi = self.width, Phi(self.activation)
        if self.arch == "transformer":
            return self._transformer()
        if self.arch in ("mlp", "densenet"):
            return (Linear(n, 0 if self.grows else n), *self._norm, phi)
        weights = Linear(n, n)
        branch: Chain = (weights, phi) if self.outside else (phi, weights)
        if self.place == "post":
            return (Residual(branch, self.alpha), *self._norm)
        return (Residual((*self._norm, *branch), self.alpha),)

    @property
    def _norm(self) -> Chain:
        if self.norm == "none":
            return ()
        kind, _, groups = self.norm.partition(":")
        return (Norm(kind == "batch", int(groups or 1), self.eps),)

    def _transformer(self) -> Chain:
        n, norm = self.width, Norm(False, 1, self.eps)
        look: Chain = (Linear(3 * n, n), Attention(n, self.heads, self.tokens), Linear(n, n))
        feed: Chain = (Linear(INNER * n, n), Phi(self.activation), Linear(n, INNER * n))
        if self.place == "post":
            return (Residual(look, self.alpha), norm, Residual(feed, self.alpha), norm)
        return tuple(Residual((norm, *branch), self.alpha) for branch in (look, feed))

    def maps(self, layer: int) -> list[Linear]:
        """The linear maps of a layer, counted from zero, in the order of its numbers."""
        found = [part for part in flat(self.block) if isinstance(part, Linear)]
        return [one._replace(inputs=one.inputs or (layer + 1) * self.width) for one in found]

    @cached_property
    def idle_biases(self) -> list[bool]:
        """Of each map, whether a batch norm follows and takes its bias away again."""
        parts = [*flat(self.block), None]
        return [
            isinstance(after, Norm) and after.batch
            for part, after in pairwise(parts)
            if isinstance(part, Linear)
        ]

    def numbers(self, layer: int) -> int:
        """Weights and biases of a layer."""
        return sum(one.outputs * (one.inputs + 1) for one in self.maps(layer))

    @property
    def most_numbers(self) -> int:
        """Of the largest layer, which every layer has room for."""
        return self.numbers(self.depth - 1)

    def sizes(self, columns: int) -> Sizes:
        """As the engine has them: the state's numbers where its rows take so many columns, and
        those of a layer, its index after them."""
        return Sizes(self.units * columns, self.most_numbers + 1)

    # What the engine asks of a cell.

    @staticmethod
    def shapes(sizes: Sizes) -> dict[str, tuple[int, ...]]:
        """Of the parameters that all steps share: there are none."""
        return {}

    @staticmethod
    def state_shape(sizes: Sizes) -> tuple[int, int]:
        """One part, of all units and rows."""
        return (1, sizes.hidden)

    @classmethod
    def adjoint_shape(cls, sizes: Sizes) -> tuple[int, int]:
        """The same."""
        return cls.state_shape(sizes)
