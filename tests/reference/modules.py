"""Cells that PyTorch lacks, as modules of it, from their papers' equations."""

import torch
from torch import Tensor, nn
from torch.nn.functional import logsigmoid


class MinGRU(nn.Module):
    """h_t = (1 - z_t) h_{t-1} + z_t c_t with z_t = sigmoid(linear_z(x_t)), c_t = linear_h(x_t).

    Source: Feng et al. 2024, equations of section 3.1. Called as `nn.GRU` is.
    """

    def __init__(self, inputs: int, hidden: int, dtype: torch.dtype = torch.float64) -> None:
        super().__init__()
        self.linear_z = nn.Linear(inputs, hidden, dtype=dtype)
        self.linear_h = nn.Linear(inputs, hidden, dtype=dtype)

    def forward(self, x: Tensor, first: Tensor) -> tuple[Tensor, Tensor]:
        h, found = first[0], []
        for gate, candidate in zip(self.linear_z(x), self.linear_h(x), strict=True):
            z = torch.sigmoid(gate)
            h = (1 - z) * h + z * candidate
            found.append(h)
        return torch.stack(found), h[None]


class SLSTM(nn.Module):
    """c, n and m of the sLSTM and h = o c/n, as the published code stabilises them.

    Source: Beck et al. 2024, section 2.2, and NX-AI/xlstm, xlstm/blocks/slstm/src/vanilla/slstm.py:
    m is a_i where n is 0. Called as `nn.LSTM` is, with (h, c, n) at m = 0.
    """

    def __init__(self, inputs: int, hidden: int, dtype: torch.dtype = torch.float64) -> None:
        super().__init__()
        for name, shape in (
            ("weight_ih", (4 * hidden, inputs)),
            ("weight_hh", (4 * hidden, hidden)),
            ("bias", (4 * hidden,)),
        ):
            self.register_parameter(name, nn.Parameter(torch.zeros(shape, dtype=dtype)))

    def forward(self, x: Tensor, first: tuple[Tensor, ...]) -> tuple[Tensor, tuple[Tensor, ...]]:
        h, c, n = (part[0] for part in first)
        m, found = torch.zeros_like(h), []
        for x_t in x:
            a = x_t @ self.weight_ih.T + h @ self.weight_hh.T + self.bias
            a_i, a_f, a_z, a_o = a.chunk(4, dim=1)
            kept = logsigmoid(a_f) + m
            m = torch.where(n == 0, a_i, torch.maximum(a_i, kept))
            into, forget = ((v - m).exp().clamp(max=1) for v in (a_i, kept))
            c, n = forget * c + into * a_z.tanh(), forget * n + into
            h = a_o.sigmoid() * c / n
            found.append(h)
        return torch.stack(found), (h[None], c[None], n[None])
