"""The Vulkan engine: any GPU, through the library ncnn.

It writes a network, from its layers, as the text and the bytes of ncnn's two files, in memory. Their format:
https://github.com/Tencent/ncnn/wiki/param-and-model-file-structure; the layers and their options:
https://github.com/Tencent/ncnn/blob/master/docs/developer-guide/operators.md.
"""
from __future__ import annotations

import atexit
import functools
import threading
import weakref
from collections import Counter
from collections.abc import Callable, Mapping, Sequence

import cv2
import ncnn
import numpy as np

from ..archs.architecture import Layers
from ..archs.loaded import LoadedNetwork
from ..errors import EngineError, NonFiniteError
from ..pipeline import run_in_thread
from .devices import Device, measure_vulkan_memory, open_vulkan_gpu
from .engine import Engine, upscale_in_float

#: The most that some drivers bind (Intel's until 2022).
_LARGEST_BUFFER = 1 << 30
# The memory of weights, as multiples of their size in float32, by whether they are computed with in float16: ncnn keeps
# copies that are transformed for Winograd's algorithm. On a software device it took five times.
_COPIES_OF_WEIGHTS = {False: 6, True: 3}
_SHARE_OF_BUDGET = 0.9
_BYTES_PER_PIXEL = 12  # of a result: RGB in float32
_ROWS_AT_A_TIME = 64  # of a result, which fit the processor's cache

_INPUT, _OUTPUT = 'picture', 'result'
_MAGIC = 7767517
_FLOAT32 = bytes(4)  # how the weights of a convolution begin

_living: weakref.WeakSet[VulkanEngine] = weakref.WeakSet()


@atexit.register
def _stop_engines() -> None:
    """Let pictures end that other threads compute, and no more begin: ncnn goes away in a moment.

    A thread that is in a library when Python ends would crash; one that waits for a lock does not.
    """
    for engine in list(_living):
        engine._lock.acquire()
        engine._finishing.acquire()


class VulkanEngine(Engine):
    """Runs a network on a GPU that has a Vulkan driver; see `Engine` for the interface.

    A GPU that can't compute in float16 does so in float32.
    """

    name = 'vulkan'
    in_flight = 1

    def __init__(self, network: LoadedNetwork, device: Device, precision: str, threads: int | None = None) -> None:
        half = precision == 'float16'
        layers = network.layers()
        assert layers is not None  # or it would have been refused
        param, weights = build_model(layers, network.arrays)
        self._device = device
        taken = len(weights) * _COPIES_OF_WEIGHTS[half]
        if taken > measure_vulkan_memory(device):
            raise MemoryError(f'the weights take about {taken >> 20} MiB, more than {device} has')
        self._allocator = Allocator(open_vulkan_gpu(device), taken)
        self._net = net = ncnn.Net()
        net.opt.use_vulkan_compute = True
        net.opt.use_fp16_packed = net.opt.use_fp16_storage = net.opt.use_fp16_arithmetic = half
        net.opt.blob_vkallocator = self._allocator
        net.set_vulkan_device(device.index or 0)
        if net.load_param_mem(param) != 0:
            raise EngineError(f'ncnn {ncnn.__version__} does not take the network; --engine takes another')
        net.load_model_mem(weights)
        self._shape: tuple[int, ...] = ()  # of the last picture
        self._lock, self._finishing = threading.Lock(), threading.Lock()
        _living.add(self)
        # ncnn turns this off where the GPU can't.
        super().__init__(network, device, 'float16' if net.opt.use_fp16_storage else 'float32')

    def __call__(self, batch: np.ndarray) -> np.ndarray:
        if batch.dtype == np.uint16:
            return upscale_in_float(self, batch)
        count, height, width = batch.shape[:3]
        if height * width * self.scale ** 2 * _BYTES_PER_PIXEL > _LARGEST_BUFFER:
            raise MemoryError(f'{self.description}: {width}x{height} pixels are too many at a time')
        result = np.empty((count, height * self.scale, width * self.scale, 3), batch.dtype)
        for picture, pixels in zip(batch, result, strict=True):
            with self._lock:
                if picture.shape != self._shape:
                    self._allocator.clear()  # pieces of other sizes
                    self._shape = picture.shape
                usable = int(measure_vulkan_memory(self._device) * _SHARE_OF_BUDGET)
                self._allocator.limit = usable - sum(
                    engine._allocator.peak for engine in list(_living)  # what others of this process hold
                    if engine is not self and engine._device == self._device)
                planes = self._run(picture)
            with self._finishing:
                self._finish(planes, pixels)
        return result

    def submit(self, batch: np.ndarray, size: tuple[int, int] | None = None,
               together: int = 1) -> Callable[[], np.ndarray]:
        """As of `Engine`. In a thread, so that one result is rounded while the GPU computes the next."""
        return run_in_thread(functools.partial(self, batch), 'vulkan').result

    def release(self) -> None:
        with self._lock:
            self._allocator.clear()

    def _run(self, picture: np.ndarray) -> np.ndarray:
        """Return the network's result as it is, 3 x sH x sW, RGB, float32."""
        height, width = picture.shape[:2]
        given = ncnn.Mat(width, height, 3)  # whose channels begin at multiples of 16 bytes, as ncnn takes them
        np.divide(picture[..., ::-1].transpose(2, 0, 1), 255 if picture.dtype == np.uint8 else 1, given.numpy(),
                  dtype=np.float32)
        extractor = self._net.create_extractor()
        try:
            extractor.input(_INPUT, given)
            status, result = extractor.extract(_OUTPUT)
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


def measure_held_memory() -> tuple[int, int]:
    """Return how many bytes the engines of this process use on GPUs, and how many they hold."""
    allocators = [engine._allocator for engine in list(_living)]
    return sum(allocator.used for allocator in allocators), sum(allocator.peak for allocator in allocators)


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


# ---- models ----

def build_model(layers: Layers, weights: Mapping[str, np.ndarray]) -> tuple[str, bytes]:
    """Return a network as an ncnn model.

    Args:
        layers: The network.
        weights: float32, by parameter name.

    Returns:
        The text of its `.param` and the bytes of its `.bin`, in float32. It maps the blob `_INPUT`, 3 x H x W, RGB in
        0..1, to the blob `_OUTPUT`, 3 x sH x sW.
    """
    graph = _Graph()
    features = [graph.add('Reorg', _INPUT, options=f'0={layers.fold}') if layers.fold > 1 else _INPUT]
    for layer in layers.convolutions:
        x = features[layer.inputs[0]]
        if len(layer.inputs) > 1:
            x = graph.add('Concat', *(features[feature] for feature in layer.inputs), options='')
        if layer.doubles:
            x = graph.enlarge(x, 2)
        values = 9 * layer.channels * sum(layers.channels[feature] for feature in layer.inputs)
        activation = f' 9=2 -23310=1,{layer.slope}' if layer.slope != 1 and not isinstance(layer.slope, str) else ''
        x = graph.add('Convolution', x, options=f'0={layer.channels} 1=3 4=1 5=1 6={values}{activation}')
        if isinstance(layer.slope, str):
            x = graph.add('PReLU', x, options=f'0={layer.channels}')
        for feature, share in layer.residuals:
            x = (graph.add('BinaryOp', features[feature], x, options='0=0') if share == 1 else
                 graph.add('Eltwise', features[feature], x, options=f'0=1 -23301=2,1.0,{share}'))
        features.append(x)
    result = features[-1]
    if layers.shuffle > 1:
        result = graph.add('PixelShuffle', result, options=f'0={layers.shuffle}')
    if layers.adds_picture:
        picture = graph.enlarge(_INPUT, layers.shuffle) if layers.shuffle > 1 else _INPUT
        graph.add('BinaryOp', result, picture, options='0=0')
    content = [(_FLOAT32 if weights[name].ndim == 4 else b'') + np.ascontiguousarray(weights[name]).tobytes()
               for name in layers.parameter_shapes()]
    return graph.to_param(), b''.join(content)


class _Graph:
    """ncnn's layers in order, each with one output, which any number of later layers may take."""

    def __init__(self) -> None:
        self._layers: list[tuple[str, Sequence[str], str, str]] = []  # kind, inputs, output, options

    def add(self, kind: str, *inputs: str, options: str) -> str:
        """Add a layer; return the name of its output."""
        output = f'{kind.lower()}{len(self._layers)}'
        self._layers.append((kind, inputs, output, options))
        return output

    def enlarge(self, x: str, factor: int) -> str:
        """Enlarge by nearest neighbour.

        ncnn's Interp computes coordinates in float16 too, which has none of the odd numbers above 2048. So this lays
        the picture beside itself and shuffles.
        """
        return self.add('PixelShuffle', self.add('Concat', *[x] * factor ** 2, options=''), options=f'0={factor} 1=1')

    def to_param(self) -> str:
        """Return the text of the `.param` file. What several layers take goes through a Split to each of them."""
        uses = Counter(name for _, inputs, _, _ in self._layers for name in inputs)
        taken: Counter[str] = Counter()
        lines: list[str] = []

        def take(name: str) -> str:
            taken[name] += 1
            return name if uses[name] == 1 else f'{name}_{taken[name]}'

        def write(kind: str, inputs: Sequence[str], output: str, options: str = '') -> None:
            lines.append(' '.join(filter(None, [kind, output, str(len(inputs)), '1', *inputs, output, options])))
            if uses[output] > 1:
                copies = ' '.join(f'{output}_{number + 1}' for number in range(uses[output]))
                lines.append(f'Split split_{output} 1 {uses[output]} {output} {copies}')

        write('Input', (), _INPUT)
        for kind, inputs, output, options in self._layers[:-1]:
            write(kind, list(map(take, inputs)), output, options)
        kind, inputs, _, options = self._layers[-1]
        write(kind, list(map(take, inputs)), _OUTPUT, options)
        blobs = 1 + len(self._layers) + sum(count for count in uses.values() if count > 1)
        return '\n'.join([str(_MAGIC), f'{len(lines)} {blobs}', *lines, ''])
