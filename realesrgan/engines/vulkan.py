"""The Vulkan engine: any GPU, through the library ncnn."""
from __future__ import annotations

import atexit
import functools
import importlib.util
import threading
import weakref
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from ..archs.loaded import LoadedNetwork
from ..errors import EngineError, NonFiniteError, RealESRGANError
from .engine import explain_missing_layers
from .vulkan_gpus import measure_memory, open_gpu

if TYPE_CHECKING:
    import ncnn

    from .devices import Device

#: What some drivers bind at most (Intel's until 2022).
_LARGEST_BUFFER = 1 << 30
# What weights take, as multiples of their size in float32, by whether they are computed with in float16: ncnn keeps
# copies that are transformed for Winograd's algorithm. On a software device it took five times.
_COPIES_OF_WEIGHTS = {False: 6, True: 3}
_SHARE_OF_BUDGET = 0.9
_BYTES_PER_PIXEL = 12  # of a result: RGB in float32
_ROWS_AT_A_TIME = 64  # of a result, which fit the processor's cache


_living: weakref.WeakSet[VulkanEngine] = weakref.WeakSet()


@atexit.register
def _stop_engines() -> None:
    """Let pictures end that other threads compute, and no more begin: ncnn goes away in a moment."""
    for engine in list(_living):
        engine._lock.acquire()


class VulkanEngine:
    """Runs a network on a GPU that has a Vulkan driver; see `Engine` for the interface.

    Args:
        network: The network, which has layers.
        device: The GPU.
        half: Compute in float16 where the GPU can, else in float32.
    """

    name = 'vulkan'

    def __init__(self, network: LoadedNetwork, device: Device, *, half: bool) -> None:
        import ncnn

        from .vulkan_graph import build_model
        layers = network.layers()
        assert layers is not None  # or it would have been refused
        param, weights = build_model(layers, network.arrays)
        self._device = device
        taken = len(weights) * _COPIES_OF_WEIGHTS[half]
        if taken > measure_memory(device):
            raise MemoryError(f'the weights take about {taken >> 20} MiB, more than {device} has')
        self._allocator = _make_allocator_class()(open_gpu(device), taken)
        self._net = net = ncnn.Net()
        net.opt.use_vulkan_compute = True
        net.opt.use_fp16_packed = net.opt.use_fp16_storage = net.opt.use_fp16_arithmetic = half
        net.opt.blob_vkallocator = self._allocator
        net.set_vulkan_device(device.index or 0)
        if net.load_param_mem(param) != 0:
            raise EngineError(f'ncnn {ncnn.__version__} does not take the network; --engine takes another')
        net.load_model_mem(weights)
        self._shape: tuple[int, ...] = ()  # of the last batch
        self._lock = threading.Lock()
        _living.add(self)
        self.scale = network.scale
        self.half = bool(net.opt.use_fp16_storage)  # which ncnn turns off where the GPU can't
        self.description = f'vulkan, {device}, {"float16" if self.half else "float32"}'

    def __call__(self, batch: np.ndarray) -> np.ndarray:
        count, height, width = batch.shape[:3]
        if height * width * self.scale ** 2 * _BYTES_PER_PIXEL > _LARGEST_BUFFER:
            raise MemoryError(f'{self.description}: {width}x{height} pixels are too many at a time')
        with self._lock:
            if batch.shape != self._shape:
                self._allocator.clear()  # pieces of other sizes
                self._shape = batch.shape
            self._allocator.limit = int(measure_memory(self._device) * _SHARE_OF_BUDGET) - self._count_others()
            result = np.empty((count, height * self.scale, width * self.scale, 3), batch.dtype)
            for picture, pixels in zip(batch, result, strict=True):
                self._finish(self._run(picture), pixels)
            return result

    def release(self) -> None:
        with self._lock:
            self._allocator.clear()

    def _count_others(self) -> int:
        """Return what other engines of this process hold of the device's memory."""
        return sum(engine._allocator.peak for engine in list(_living)
                   if engine is not self and engine._device == self._device)

    def _run(self, picture: np.ndarray) -> np.ndarray:
        """Return the network's result as it is, 3 x sH x sW, RGB, float32."""
        import ncnn

        from .vulkan_graph import INPUT, OUTPUT
        height, width = picture.shape[:2]
        given = ncnn.Mat(width, height, 3)  # whose channels begin at multiples of 16 bytes, as ncnn takes them
        np.divide(picture[..., ::-1].transpose(2, 0, 1), 255 if picture.dtype == np.uint8 else 1, given.numpy(),
                  dtype=np.float32)
        extractor = self._net.create_extractor()
        try:
            extractor.input(INPUT, given)
            status, result = extractor.extract(OUTPUT)
        finally:
            del extractor  # gives back its blobs, which an exception would hold on to with this frame
        if status:
            raise MemoryError(f'{self.description}: ncnn failed with status {status}')
        return np.asarray(result)

    def _finish(self, planes: np.ndarray, pixels: np.ndarray) -> None:
        """Write what `_run` returned to `pixels`: sH x sW x 3, BGR, clamped."""
        total = np.float32(0)  # finite if all values are, unless they are absurd
        for start in range(0, len(pixels), _ROWS_AT_A_TIME):
            rows = slice(start, start + _ROWS_AT_A_TIME)
            band = planes[::-1, rows]
            total += band.sum()
            np.clip(band, 0, 1, out=band)
            channels = list(band)
            if pixels.dtype == np.uint8:
                channels = [cv2.convertScaleAbs(channel, alpha=255) for channel in channels]
            cv2.merge(channels, pixels[rows])
        if not np.isfinite(total):
            raise NonFiniteError(f'the network gave values that are not finite ({self.description})')


@functools.cache
def _make_allocator_class() -> Any:
    """Return the class of allocators; it derives from one of ncnn's, which is not imported before it is needed."""
    import ncnn

    class Allocator(ncnn.VkBlobAllocator):  # type: ignore[misc]
        """Hands out a GPU's memory up to a limit.

        ncnn crashes where a driver refuses memory (version 1.0.20261020). An exception raised here ends its work
        cleanly.

        Args:
            device: The GPU, as ncnn knows it.
            weights: About what the network's weights take, in bytes.

        Attributes:
            limit: Bytes that weights and blobs may take together.
            used: Bytes that they take. Blocks that ncnn keeps for the next blobs are not counted.
            peak: The most that they took since `clear`, about what is held.
        """

        def __init__(self, device: ncnn.VulkanDevice, weights: int) -> None:
            super().__init__(device)
            self.limit = 0
            self.used = self.peak = weights

        def fastMalloc(self, size: int) -> ncnn.VkBufferMemory:  # noqa: N802
            if size > _LARGEST_BUFFER or self.used + size > self.limit:
                raise MemoryError(f'the GPU has no room for {size >> 20} MiB beside the {self.used >> 20} MiB in use')
            memory = super().fastMalloc(size)
            self.used += memory.capacity
            self.peak = max(self.peak, self.used)
            return memory

        def clear(self) -> None:
            super().clear()
            self.peak = self.used

        def fastFree(self, memory: ncnn.VkBufferMemory) -> None:  # noqa: N802
            self.used -= memory.capacity
            super().fastFree(memory)

    return Allocator


def explain_refusal(network: LoadedNetwork) -> RealESRGANError | None:
    """Return why ncnn can't run a network; None if it can."""
    if importlib.util.find_spec('ncnn') is None:
        return EngineError('the engine vulkan is not installed: pip install ncnn')
    return explain_missing_layers(network, VulkanEngine.name)


def make(network: LoadedNetwork, device: Device, precision: str, threads: int | None) -> VulkanEngine:  # noqa: ARG001
    """Return an engine; see `EngineModule.make`."""
    return VulkanEngine(network, device, half=precision == 'float16')
