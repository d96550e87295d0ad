"""A small PyTorch model that a job file names by class: its weights are data, its code is this module."""

from __future__ import annotations

import torch
from torch import Tensor, nn

__all__ = ["LateNetwork"]


class LateNetwork(nn.Module):
    """The probability that a flight arrives late.

    Parameters
    ----------
    numbers
        How many columns the input `numbers` has.
    routes, hours
        The inputs `route` and `hour` hold integers from 0 up to these.

    >>> network = LateNetwork(numbers=3, routes=10, hours=24)
    >>> network(torch.zeros(2, 3), torch.tensor([0, 9]), torch.tensor([0, 23])).shape
    torch.Size([2])
    """

    def __init__(self, *, numbers: int, routes: int, hours: int) -> None:
        super().__init__()
        self.route = nn.Embedding(routes, 8)
        self.hour = nn.Embedding(hours, 4)
        wide, narrow = nn.Linear(numbers + 8 + 4, 64), nn.Linear(64, 32)
        self.layers = nn.Sequential(wide, nn.ReLU(), narrow, nn.ReLU(), nn.Linear(32, 1))

    def logits(self, numbers: Tensor, route: Tensor, hour: Tensor) -> Tensor:
        """What training compares with the labels, shape (n_rows,)."""
        joined = torch.cat([numbers, self.route(route), self.hour(hour)], dim=1)
        found: Tensor = self.layers(joined).squeeze(1)
        return found

    def forward(self, numbers: Tensor, route: Tensor, hour: Tensor) -> Tensor:
        return torch.sigmoid(self.logits(numbers, route, hour))
