"""The network of the scoring benchmark, which Beam's own handler builds from its class and its weights."""

from __future__ import annotations

import torch


class Network(torch.nn.Module):
    """20 numbers to one, through layers of 64 and 32."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.layers = torch.nn.Sequential(
            torch.nn.Linear(features, 64), torch.nn.ReLU(), torch.nn.Linear(64, 32), torch.nn.ReLU(),
            torch.nn.Linear(32, 1),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layers(x)
