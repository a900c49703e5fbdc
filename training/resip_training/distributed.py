"""Training in several processes, each with its share of the batch or of the worlds.

    torchrun --nproc-per-node 2 --no-python resip train bc ...

`accelerate launch` and any other launcher that sets torch's variables will do as well. All processes hold the same
weights and draw the same random numbers; each takes its own rows of what is drawn, and what they learn is added up.
So N processes do what one would do, up to the rounding of sums. Process 0 alone writes, prints and validates.
Where there is one process, nothing here does anything.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Final

import torch
from resip.errors import ResipError
from torch import Tensor, distributed, nn
from torch.nn.utils import parameters_to_vector, vector_to_parameters

#: For so long the others wait while process 0 validates.
_PATIENCE: Final = timedelta(hours=12)


@contextmanager
def joined() -> Iterator[None]:
    """Meet the other processes of the launcher, if there are any; once met, they stay together within another."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1 or distributed.is_initialized():
        yield
        return
    distributed.init_process_group(timeout=_PATIENCE)  # gloo for tensors on the CPU, NCCL for those on GPUs
    try:
        yield
    finally:
        distributed.destroy_process_group()


def count() -> int:
    """How many processes train together."""
    return distributed.get_world_size() if distributed.is_initialized() else 1


def rank() -> int:
    """Which of them this is."""
    return distributed.get_rank() if distributed.is_initialized() else 0


def is_first() -> bool:
    """Whether this is the one that writes, prints and validates."""
    return rank() == 0


def own_device(device: str) -> str:
    """The device of this process: of several GPUs, each process of a machine has its own."""
    return f"cuda:{os.environ['LOCAL_RANK']}" if device == "cuda" and count() > 1 else device


def share(total: int, things: str) -> int:
    """How many of ``total`` things each process has.

    Raises:
      ResipError: they cannot be shared evenly.
    """
    if total % count():
        raise ResipError(f"{total} {things} cannot be shared by {count()} processes: make it a multiple of them")
    return total // count()


def own(each: int) -> range:
    """The numbers, among those of all processes, of the ``each`` things that this one has."""
    return range(rank() * each, (rank() + 1) * each)


def own_rows(rows: Tensor) -> Tensor:
    """Of rows ``(N, ...)`` that all processes hold alike, those of this one, ``(N / count, ...)``."""
    numbers = own(len(rows) // count())
    return rows[numbers.start : numbers.stop]


def gathered(rows: Tensor, dim: int = 0) -> Tensor:
    """The rows of all processes, joined along ``dim`` in their order."""
    if count() == 1:
        return rows
    # gloo does not know bool
    sent = rows.contiguous().view(torch.uint8) if rows.dtype == torch.bool else rows.contiguous()
    received = [torch.empty_like(sent) for _ in range(count())]
    distributed.all_gather(received, sent)
    return torch.cat(received, dim).view(rows.dtype)


def added_up(values: Tensor) -> Tensor:
    """The sum of the processes' ``values``."""
    if count() > 1:
        values = values.detach().clone()
        distributed.all_reduce(values)
    return values


def mean(values: Tensor) -> float:
    """The mean of the processes' ``values``, of which each has as many."""
    return float(added_up(values.mean()) / count())


def add_up_gradients(module: nn.Module) -> None:
    """Give every process the sum of all gradients: each has that of its own rows' part of the loss."""
    if count() > 1:
        gradients = [parameter.grad for parameter in module.parameters() if parameter.grad is not None]
        vector_to_parameters(added_up(parameters_to_vector(gradients)), gradients)


def of_first(value: float) -> float:
    """What ``value`` is in process 0."""
    if count() > 1:
        sent = torch.tensor(value, dtype=torch.float64)
        distributed.broadcast(sent, src=0)
        return float(sent)
    return value


def anyone(flag: bool) -> bool:
    """Whether it holds in any process."""
    return bool(added_up(torch.tensor(int(flag))) > 0)
