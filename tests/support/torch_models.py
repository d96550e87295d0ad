"""Small PyTorch modules, to be named as classes in a job file."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

__all__ = ["InPlace", "Mlp", "Named", "Outputs", "TextScore", "Tied"]


class Mlp(nn.Module):
    """Two layers; `shape` says how the result is packed."""

    def __init__(self, features: int = 4, hidden: int = 8, shape: str = "tensor") -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(features, hidden), nn.ReLU(), nn.Linear(hidden, 2), nn.Dropout(0.5))
        self.shape = shape

    def forward(self, x: Tensor):
        logits = self.body(x)
        score = torch.sigmoid(logits[:, 0])
        if self.shape == "tuple":
            return logits, score
        if self.shape == "dict":
            return {"logits": logits, "score": score, "nothing": None}
        if self.shape == "dataclass":
            return Outputs(logits, score)
        return {"scalar": 1.0} if self.shape == "number" else logits


@dataclass
class Outputs:
    """As models of the transformers library give."""

    logits: Tensor
    score: Tensor


class Named(nn.Module):
    """Several inputs, one of them optional."""

    def __init__(self) -> None:
        super().__init__()
        self.dense = nn.Linear(3, 1)

    def forward(self, numbers: Tensor, weight: Tensor, offset: Tensor | None = None) -> Tensor:
        result = self.dense(numbers)[:, 0] * weight
        return result if offset is None else result + offset


class TextScore(nn.Module):
    """Token ids with a mask."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(20, 4)

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        return (self.table(ids).sum(-1) * mask).sum(-1)


class InPlace(nn.Module):
    """Overwrites its input, as the first layer of many a model does."""

    def __init__(self) -> None:
        super().__init__()
        self.dense = nn.Linear(4, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.dense(x.mul_(2.0))


class Tied(nn.Module):
    """Two layers with the same weights."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(4, 4, bias=False)
        self.second = nn.Linear(4, 4, bias=False)
        self.second.weight = self.first.weight

    def forward(self, x: Tensor) -> Tensor:
        return self.second(self.first(x))
