"""What a worker is built from: the options of its upsampler and of its faces, and the device it computes on."""
from __future__ import annotations

import logging
import numbers
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from ..errors import UsageError
from ..models import MODELS

logger = logging.getLogger(__name__)

#: How transparency is enlarged: what `--alpha_upsampler` takes.
ALPHA_UPSAMPLERS = ('realesrgan', 'bicubic')


def require_choice(name: str, value: str, allowed: Iterable[str]) -> None:
    """Check an option that takes one of several words.

    Raises:
        UsageError: `value` is none of those allowed.
    """
    words = list(allowed)
    if value not in words:
        raise UsageError(f'{name} is {value!r}; allowed are {", ".join(words)}')


def require_outscale(outscale: float | None) -> None:
    """Check a final size, where one is given.

    Raises:
        UsageError: it is not a finite number above 0.
    """
    if outscale is not None and not (isinstance(outscale, numbers.Real) and 0 < outscale < float('inf')):
        raise UsageError(f'outscale is {outscale!r}; it must be a number above 0')


@dataclass(frozen=True)
class UpsamplerOptions:
    """Everything that makes one upsampler differ from another. Wrong values raise `UsageError`.

    Attributes:
        model_name: A key of `models.MODELS`.
        model_path: File or URL of weights to use instead of the model's own, or None.
        denoise_strength: 0..1, for models with a denoise partner; None where the user gave none.
        tile: Side of the tiles in input pixels, 0 to choose by memory.
        tile_pad: Input pixels that a tile sees around itself.
        pre_pad: Input pixels added at the right and lower border, and cut off afterwards.
        half: Half precision where the device is faster with it.
        engine: 'auto', or the name of a row in `engines.engine`.
        max_memory: Bytes that the network may take while it runs, on a CPU with the result; None for most of what is
            free.
    """

    model_name: str = 'RealESRGAN_x4plus'
    model_path: str | None = None
    denoise_strength: float | None = None
    tile: int = 0
    tile_pad: int = 10
    pre_pad: int = 0
    half: bool = True
    engine: str = 'auto'
    max_memory: int | None = None

    def __post_init__(self) -> None:
        require_choice('model_name', self.model_name, MODELS)

    @property
    def label(self) -> str:
        """What the network is called: the model's name, or that of the file of `model_path`."""
        return self.model_name if self.model_path is None else Path(self.model_path).stem

    @property
    def default_outscale(self) -> float | None:
        """The final size if none is asked for: 4 for the models of the table, as in 0.3.0; else None, the network's."""
        return 4 if self.label in MODELS else None


@dataclass(frozen=True)
class FaceOptions:
    """How faces are restored; `faces.FaceEnhancer` explains each."""

    model: str = 'GFPGANv1.3'
    weight: float = 1.0
    only_center_face: bool = False
    min_size: int = 0


@dataclass(frozen=True)
class ClusterOptions:
    """Which Ray cluster does the work. Wrong values raise `UsageError`.

    Attributes:
        address: Of the cluster's head, as HOST:PORT; 'auto' for the one that this machine belongs to; 'local' for one
            of this machine's own.
        cpus_per_worker: Cores of a worker on a node without a GPU; None for all of the node's.
        workers_per_gpu: Workers that share a GPU.
    """

    address: str = 'auto'
    cpus_per_worker: float | None = None
    workers_per_gpu: int = 1

    def __post_init__(self) -> None:
        if self.workers_per_gpu < 1 or (self.cpus_per_worker is not None and self.cpus_per_worker <= 0):
            raise UsageError('a worker of a cluster needs a part of a GPU or of a processor')


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


def drop_faces_of_drawings(upsampler: UpsamplerOptions, faces: FaceOptions | None) -> FaceOptions | None:
    """Return `faces`, or None with a warning if the model is for anime, which GFPGAN would turn into photos."""
    name = upsampler.label if upsampler.label in MODELS else upsampler.model_name
    if faces is None or not MODELS[name].anime:
        return faces
    logger.warning('face enhancement is turned off: %s is a model for anime', name)
    return None
