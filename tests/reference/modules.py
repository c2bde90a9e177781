"""Cells that PyTorch lacks, as modules of it, from their papers' equations."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F


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


class LRU(nn.Module):
    """h_t = lambda h_{t-1} + exp(gamma_log) B x_t, y_t = Re(C h_t) + D x_t, in complex numbers, as
    minimal-LRU (github.com/NicolasZucchet/minimal-LRU) has it, whose D is a vector.

    Source: Orvieto et al. 2023, appendix A. Called with the real and the imaginary part of h_0.
    """

    def __init__(self, inputs: int, hidden: int, dtype: torch.dtype = torch.float64) -> None:
        super().__init__()
        shapes = dict.fromkeys(("nu_log", "theta_log", "gamma_log"), (hidden,))
        shapes |= dict.fromkeys(("B_re", "B_im", "D"), (hidden, inputs))
        shapes |= dict.fromkeys(("C_re", "C_im"), (hidden, hidden))
        for name, shape in shapes.items():
            self.register_parameter(name, nn.Parameter(torch.empty(shape, dtype=dtype)))

    def forward(
        self, x: Tensor, first: tuple[Tensor, Tensor]
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        eigenvalue = torch.exp(torch.complex(-torch.exp(self.nu_log), torch.exp(self.theta_log)))
        into = torch.complex(self.B_re, self.B_im) * torch.exp(self.gamma_log)[:, None]
        out = torch.complex(self.C_re, self.C_im)
        h, found = torch.complex(first[0][0], first[1][0]), []
        for x_t in x:
            h = eigenvalue * h + x_t.to(into.dtype) @ into.T
            found.append((h @ out.T).real + x_t @ self.D.T)
        return torch.stack(found), (h.real[None], h.imag[None])


class GatedDelta(nn.Module):
    """One head of the gated delta rule, of `keys` entries a key and `hidden` values.

    Source: the naive recurrence of flash-linear-attention 0.6.0 (ops/gated_delta_rule/naive.py),
    which decays the state before it asks it for the key's value, with queries and keys over their
    length by its modules/l2norm.py, and alpha and beta by its ops/gated_delta_rule/gate.py. Called
    as `nn.GRU` is, with a first state (1, B, hidden, keys).
    """

    def __init__(
        self, inputs: int, hidden: int, keys: int, dtype: torch.dtype = torch.float64
    ) -> None:
        super().__init__()
        for name, rows in (("q", keys), ("k", keys), ("v", hidden), ("a", 1), ("b", 1)):
            self.add_module(f"{name}_proj", nn.Linear(inputs, rows, bias=False, dtype=dtype))
        self.A_log = nn.Parameter(torch.zeros(1, dtype=dtype))
        self.dt_bias = nn.Parameter(torch.zeros(1, dtype=dtype))

    def forward(self, x: Tensor, first: Tensor) -> tuple[Tensor, Tensor]:
        queries, keys = (
            a * torch.rsqrt(a.square().sum(-1, keepdim=True) + 1e-6)
            for a in (F.silu(self.q_proj(x)), F.silu(self.k_proj(x)))
        )
        queries = queries * queries.shape[-1] ** -0.5
        log_alpha = -self.A_log.exp() * F.softplus(self.a_proj(x) + self.dt_bias)
        values, beta = F.silu(self.v_proj(x)), torch.sigmoid(self.b_proj(x))
        state, found = first[0], []
        for q, k, v, g, b in zip(queries, keys, values, log_alpha, beta, strict=True):
            state = state * g.exp()[..., None]
            new = b * (v - torch.einsum("bhk,bk->bh", state, k))
            state = state + torch.einsum("bh,bk->bhk", new, k)
            found.append(torch.einsum("bhk,bk->bh", state, q))
        return torch.stack(found), state[None]


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
            kept = F.logsigmoid(a_f) + m
            m = torch.where(n == 0, a_i, torch.maximum(a_i, kept))
            into, forget = ((v - m).exp().clamp(max=1) for v in (a_i, kept))
            c, n = forget * c + into * a_z.tanh(), forget * n + into
            h = a_o.sigmoid() * c / n
            found.append(h)
        return torch.stack(found), (h[None], c[None], n[None])
