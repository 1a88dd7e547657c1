"""Where workers compute."""
from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Place:
    """Where a worker computes.

    Attributes:
        gpu_id: Number of the GPU, or None for the first, or the CPU where there is none.
        workers: How many workers share it.
    """

    gpu_id: int | None = None
    workers: int = 1

    def __str__(self) -> str:
        return 'the CPU or the first GPU' if self.gpu_id is None else f'GPU {self.gpu_id}'


def list_places(gpu_ids: tuple[int, ...], workers_per_gpu: int = 1) -> list[Place]:
    """Return the place of every worker, those of different GPUs in turn.

    Args:
        gpu_ids: Numbers of the GPUs; none for the first, or the CPU.
        workers_per_gpu: Workers on each of them.
    """
    return [Place(gpu, workers_per_gpu) for _ in range(workers_per_gpu) for gpu in gpu_ids or (None,)]
