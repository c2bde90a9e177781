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
