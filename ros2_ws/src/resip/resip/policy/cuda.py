"""A policy on a GPU as one CUDA graph: its kernels are launched together instead of one by one from Python."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import torch
from torch.export.passes import move_to_device_pass

from resip.errors import ResipError

_WARM_UP_RUNS: Final = 3  # libraries choose their algorithms and allocate before anything is recorded


class GraphedPolicy:
    """Predict on a GPU from and to tensors on the CPU.

    Args:
      program: file of torch.export.
      example: inputs; all others have their shapes.
      device: such as ``cuda``.

    Raises:
      ResipError: torch finds no GPU.
    """

    def __init__(self, program: Path, example: Sequence[torch.Tensor], device: str) -> None:
        if not torch.cuda.is_available():
            raise ResipError(f"device {device!r}: torch finds no GPU here")
        torch.backends.cudnn.allow_tf32 = False  # ten bits of mantissa are not the policy that was exported
        module = on_device(program, device)
        self._inputs = [value.to(device) for value in example]
        self._graph = torch.cuda.CUDAGraph()
        with torch.inference_mode():
            self._warm_up(module)
            with torch.cuda.graph(self._graph):
                self._output = module(*self._inputs)

    def __call__(self, *inputs: torch.Tensor) -> torch.Tensor:
        """Copy the inputs to the GPU, replay, and wait for the output."""
        for held, value in zip(self._inputs, inputs, strict=True):
            held.copy_(value)
        self._graph.replay()
        return self._output.cpu()

    def _warm_up(self, module: torch.nn.Module) -> None:
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(_WARM_UP_RUNS):
                module(*self._inputs)
        torch.cuda.current_stream().wait_stream(stream)


def on_device(program: Path, device: str) -> torch.nn.Module:
    """Read a file of torch.export as a module whose weights and constants are on ``device``."""
    return move_to_device_pass(torch.export.load(program), device).module()
