"""Cells that PyTorch lacks, as modules of it, from their papers' equations."""

import torch
from torch import Tensor, nn


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
