"""What a worker upscales with: its options and its place, and the upsampler of this process, which a pool's tasks use.

Nothing here imports PyTorch or OpenCV before it is needed, so that `--help` answers at once.
"""
from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import numpy as np
    import torch

    from ..faces.enhancer import FaceEnhancer
    from ..upscaling.upsampler import RealESRGANer


@dataclass(frozen=True)
class UpsamplerOptions:
    """Everything that makes one upsampler differ from another.

    Attributes:
        model_name: A key of `models.MODELS`.
        model_path: File or URL of weights to use instead of the model's own, or None.
        denoise_strength: 0..1, or None where it was not given.
        tile: Side of the tiles in input pixels, 0 for none.
        tile_pad: Input pixels that a tile sees around itself.
        pre_pad: Input pixels added at the border.
        half: Half precision where the device is faster with it.
        engine: One of `engines.table.engine_choices()`.
        max_memory: Bytes that the network may take, or None.
    """

    model_name: str
    model_path: str | None
    denoise_strength: float | None
    tile: int
    tile_pad: int
    pre_pad: int
    half: bool
    engine: str
    max_memory: int | None


@dataclass(frozen=True)
class FaceOptions:
    """How faces are restored; see `faces.FaceEnhancer` for the meaning of each."""

    model: str
    weight: float
    only_center_face: bool
    min_size: int


@dataclass(frozen=True)
class Place:
    """Where a worker computes.

    Attributes:
        gpu_id: Number of the GPU, or None for the first, or the CPU where there is none.
        workers: How many share it.
    """

    gpu_id: int | None
    workers: int

    def __str__(self) -> str:
        return 'the CPU or the first GPU' if self.gpu_id is None else f'GPU {self.gpu_id}'


# ---- from options to an upsampler ----

def prepare_faces(faces: FaceOptions) -> None:
    """Make sure that what the faces need is there, before anything large is loaded.

    Raises:
        RealESRGANError: packages are not installed, or weights can't be had.
    """
    from ..faces.networks import import_face_packages, obtain_face_files
    import_face_packages()
    obtain_face_files(faces.model)


def build(options: UpsamplerOptions, faces: FaceOptions | None, place: Place) -> RealESRGANer | FaceEnhancer:
    """Return what a worker upscales with: its share of a CPU's threads and of the memory of where it computes.

    What faces need is looked for first, so that nothing large is loaded, and no picture is touched, in vain.

    Raises:
        RealESRGANError: packages or weights can't be had, or the device is not there.
    """
    if faces is not None:
        prepare_faces(faces)
    from ..engines.devices import pick_device
    device, threads = pick_device(gpu_id=place.gpu_id), None
    if place.workers > 1:
        import torch

        from ..engines.memory import usable_bytes
        options = replace(options, max_memory=(options.max_memory or usable_bytes(device)) // place.workers)
        if device.type == 'cpu':
            threads = max(torch.get_num_threads() // place.workers, 1)
    upsampler = build_upsampler(options, device, threads)
    if faces is None:
        return upsampler
    from ..faces.enhancer import FaceEnhancer
    return FaceEnhancer(upsampler, faces.model, faces.weight, only_center_face=faces.only_center_face,
                        min_size=faces.min_size)


def build_upsampler(options: UpsamplerOptions, device: torch.device, threads: int | None = None) -> RealESRGANer:
    """Find the weights, build the network and return its upsampler.

    Args:
        options: The upsampler's.
        device: Where it computes.
        threads: How many a CPU computes with, or None for all.

    Raises:
        RealESRGANError: the weights can't be had.
    """
    from ..upscaling.upsampler import RealESRGANer
    from ..weights.loading import load_network
    from ..weights.sources import resolve
    network = load_network(resolve(options.model_name, options.model_path, options.denoise_strength))
    return RealESRGANer(network.scale, None, model=network, tile=options.tile, tile_pad=options.tile_pad,
                        pre_pad=options.pre_pad, half=options.half, device=device, engine=options.engine,
                        max_memory=options.max_memory, threads=threads)


# ---- the upsampler of this process ----

class Enhancer(Protocol):
    """Upscales pictures: a `RealESRGANer` or a `FaceEnhancer`."""

    on_tile: Callable[[int, int], None] | None

    def enhance(self, img: np.ndarray, outscale: float | None = None,
                alpha_upsampler: str = 'realesrgan') -> tuple[np.ndarray, str]: ...


_enhancer: Enhancer | None = None


def initialize(build: Callable[..., Enhancer], *arguments: object) -> None:
    """Make the upsampler of this process: `build` is called with the arguments."""
    global _enhancer
    _enhancer = build(*arguments)


def enhancer() -> Enhancer:
    """Return the upsampler of this process, once `initialize` was called."""
    assert _enhancer is not None
    return _enhancer
