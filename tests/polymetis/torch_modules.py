"""Small TorchScript controllers that behave and misbehave; scripted code needs evaluated annotations."""

import torch
from torch import Tensor, nn


class Counting(nn.Module):
    """Ends itself after ``steps`` steps; ``update`` sets the torque."""

    def __init__(self, steps: int):
        super().__init__()
        self.steps = steps
        self.done = 0
        self.torque = torch.zeros(7)

    def forward(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        self.done += 1
        return {"joint_torques": self.torque + float(self.done)}

    @torch.jit.export
    def update(self, params: dict[str, Tensor]) -> None:
        if "torque" not in params:
            raise ValueError("unknown parameter")
        self.torque = params["torque"].clone().view(7)

    @torch.jit.export
    def is_terminated(self) -> bool:
        return self.done >= self.steps


class FailsAfter(nn.Module):
    """Raises in every step from the given one on."""

    def __init__(self, steps: int):
        super().__init__()
        self.steps = steps
        self.done = 0

    def forward(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        self.done += 1
        if self.done > self.steps:
            raise ValueError("deliberate failure")
        return {"joint_torques": torch.zeros(7)}

    @torch.jit.export
    def is_terminated(self) -> bool:
        return False


class NeverAsked(nn.Module):
    """Lacks ``is_terminated``."""

    def forward(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        return {"joint_torques": torch.zeros(7)}


class Answers(nn.Module):
    """Gives a tensor of ``size`` under ``key``."""

    def __init__(self, key: str, size: int):
        super().__init__()
        self.key = key
        self.size = size

    def forward(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        return {self.key: torch.zeros(self.size)}

    @torch.jit.export
    def is_terminated(self) -> bool:
        return False
