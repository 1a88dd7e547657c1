"""`RealESRGANer`: a picture in, a larger one out, both numpy arrays in host memory."""
from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np

from ..archs.architecture import find_multiple_of_0_3_0
from ..archs.loaded import LoadedNetwork
from ..archs.registry import ARCHITECTURES
from ..engines.choice import make_engine, pick_device, settle_device
from ..engines.devices import Device
from ..engines.engine import Engine
from ..engines.memory import estimate_result_memory, require_memory
from ..engines.table import AUTO, VULKAN
from ..errors import NonFiniteError
from ..weights.loading import load_for_upsampler
from .blending import Stitcher
from .pixels import (
    ColourPixels,
    GrayPixels,
    Pixels,
    check_picture,
    choose_depth,
    enlarge_by_cubic,
    fill_hidden_colours,
    normalise_layout,
    settle_alpha,
)
from .planner import TilePlan, TilePlanner
from .tiles import Tile, cut_into_tiles, pad_picture

if TYPE_CHECKING:
    import torch
    from torch import nn

logger = logging.getLogger(__name__)

_ALPHA_UPSAMPLERS = ('realesrgan', 'bicubic')


class RealESRGANer:
    """Upscales pictures with one network.

    Args:
        scale: Scale of the network.
        model_path: Weights: a path or URL as `weights.load_state_dict` takes it, two of them to interpolate (see
            `dni_weight`), or None if `model` holds its weights already.
        dni_weight: The shares of the two weight files, such as [0.3, 0.7] (deep network interpolation).
        model: The network, a PyTorch module or a `LoadedNetwork`; None reads it off the weights.
        tile: Side in input pixels of the tiles that the picture is cut into, 0 for none. Smaller tiles need less
            memory.
        tile_pad: Input pixels that a tile sees around itself.
        pre_pad: Pixels added by reflection on the right and below before the network runs, and cut off afterwards.
        half: Compute in half precision where the device is faster with it (see `engines.devices.pick_precision`).
        device: A PyTorch device or its name, or 'vulkan' with a number; None picks the first GPU, else the CPU (see
            `engines.choice.pick_device`).
        gpu_id: Number of the GPU to use if `device` is None.
        engine: A name from `engines.table` or 'auto' (see `engines.choice.make_engine`); or an engine that is ready to
            run the network, for which `half` and `threads` are not used.
        max_memory: Bytes that the network may take while it runs, beside its weights, and on a CPU with the result;
            None is most of what is free. With `tile` 0 a picture that would need more is cut into tiles that need less.
        threads: The number of threads that a CPU computes with, None for the engine's own choice. That of the torch
            engine holds for PyTorch in the whole process.

    Attributes:
        scale, pre_pad, mod_scale, half, device, model: As in 0.3.0. The last two import PyTorch where the engine has
            not done so.
        tile_size, tile_pad: As in 0.3.0; they may be changed between pictures.
        engine: Runs the network.
        on_tile: Called after each tile with the number of tiles done and their total; None at first.
        tiles: The tiles of the last picture, in its own pixels.

    Raises:
        ValueError: an argument out of range, or a `scale` that is not the network's.
        WeightsError, DownloadError: the weights can't be loaded or fetched.
        DeviceError: the device is not there, or the engine does not run on it.
        EngineError: the engine is not installed, or does not know the network.

    Source: `RealESRGANer` of Real-ESRGAN 0.3.0, whose arguments, attributes and methods it keeps.
    """

    def __init__(self, scale: int, model_path: str | Path | Sequence[str | Path] | None,
                 dni_weight: Sequence[float] | None = None, model: nn.Module | LoadedNetwork | None = None,
                 tile: int = 0, tile_pad: int = 10, pre_pad: int = 10, half: bool = False,
                 device: str | torch.device | Device | None = None, gpu_id: int | None = None, *,
                 engine: str | Engine = 'auto', max_memory: int | None = None, threads: int | None = None) -> None:
        for name, value in (('tile', tile), ('tile_pad', tile_pad), ('pre_pad', pre_pad)):
            if value < 0:
                raise ValueError(f'{name} is {value}; it must be 0 or more')
        self._scale = scale
        self.pre_pad = pre_pad
        multiple = find_multiple_of_0_3_0(scale)
        self.mod_scale = multiple if multiple > 1 else None
        self.half = half
        engine_name = engine if isinstance(engine, str) else AUTO
        picked = pick_device(device, gpu_id, engine_name)
        self._threads = threads
        self.on_tile: Callable[[int, int], None] | None = None
        self.tiles: Sequence[Tile] = ()

        self._network = load_for_upsampler(scale, model_path, dni_weight, model)
        if self._network.scale != scale:
            raise ValueError(f'scale is {scale}, but the network upscales by {self._network.scale}')
        self._device = picked if device is not None else settle_device(self._network, picked, engine_name)
        if isinstance(engine, str):
            engine = make_engine(self._network, self._device, half=half, name=engine, threads=threads)
        self._engine = engine
        self._exact_engine: Engine | None = None
        # 0.3.0 pads by the scale, whether the network needs it or not.
        mod_scale = self.mod_scale if type(self._network.traits) in ARCHITECTURES else None
        self._multiple = math.lcm(mod_scale or 1, self._network.traits.multiple)
        self._planner = TilePlanner(self._network.traits, engine, self._device, multiple=self._multiple, tile=tile,
                                    tile_pad=tile_pad, max_memory=max_memory)
        logger.info('engine: %s', engine.description)

    @property
    def scale(self) -> int:
        """Scale of the network. It can't be changed: another network needs another upsampler."""
        return self._scale

    @scale.setter
    def scale(self, scale: int) -> None:
        if scale != self._scale:
            raise ValueError(f'scale can\'t become {scale}: the network upscales by {self._scale}. The final size is '
                             'enhance(outscale=...)')

    @cached_property
    def model(self) -> nn.Module:
        """The network as a PyTorch module; where the torch engine runs it, on the device and in its precision."""
        return self._network.module

    @cached_property
    def device(self) -> torch.device:
        """The device that was picked; the CPU in place of one that PyTorch can't use."""
        import torch
        return torch.device('cpu' if self._device.type == VULKAN else str(self._device))

    @property
    def device_type(self) -> str:
        """The kind of the device: 'cpu', 'cuda' ..."""
        return self._device.type

    @property
    def engine(self) -> Engine:
        """What runs the network."""
        return self._engine

    @property
    def tile_size(self) -> int:
        """Side of the tiles in input pixels, 0 for none."""
        return self._planner.tile

    @tile_size.setter
    def tile_size(self, side: int) -> None:
        self._planner.tile = side

    @property
    def tile_pad(self) -> int:
        """Input pixels that a tile sees around itself."""
        return self._planner.tile_pad

    @tile_pad.setter
    def tile_pad(self, pixels: int) -> None:
        self._planner.tile_pad = pixels

    def enhance(self, img: np.ndarray, outscale: float | None = None,
                alpha_upsampler: str = 'realesrgan') -> tuple[np.ndarray, str]:
        """Upscale one picture.

        Args:
            img: HxW or HxWx1 (gray), HxWx3 (BGR) or HxWx4 (BGRA). uint8 and uint16 use their full range. Floating
                point is taken as 0..65535 if any value is above 256, else as 0..255.
            outscale: Final size as a multiple of the input's, by LANCZOS4 from the network's result; None is the
                network's scale.
            alpha_upsampler: 'realesrgan' takes alpha through the network, 'bicubic' interpolates it.

        Returns:
            The picture, floor(outscale*H) x floor(outscale*W) with the input's channels (gray as HxW), uint8, or
            uint16 for 16-bit input; and its kind: 'L', 'RGB' or 'RGBA'.

        Raises:
            TypeError: another dtype.
            ValueError: another shape, or an argument out of range.
            NonFiniteError: the network's result is not finite, in single precision either.
            MemoryError: not enough memory even for the smallest tiles, of 32 pixels (64 and 128 for x2 and x1).
        """
        if alpha_upsampler not in _ALPHA_UPSAMPLERS:
            raise ValueError(f'alpha_upsampler is {alpha_upsampler!r}; allowed are {", ".join(_ALPHA_UPSAMPLERS)}')
        if outscale is not None and not 0 < outscale < float('inf'):
            raise ValueError(f'outscale is {outscale}; it must be above 0')
        check_picture(img)
        dtype = choose_depth(img)
        room = estimate_result_memory(img.size * dtype.itemsize, self.scale, outscale,
                                      alpha=img.ndim == 3 and img.shape[2] == 4)
        require_memory(room)
        picture = normalise_layout(img)
        mode = 'L' if picture.ndim == 2 else {3: 'RGB', 4: 'RGBA'}[picture.shape[2]]
        if mode == 'RGBA':
            colours = self._upscale(ColourPixels(fill_hidden_colours(picture, dtype), dtype), room)
            result = np.dstack((colours, self._upscale_alpha(picture[..., 3], dtype, alpha_upsampler, room)))
        else:
            result = self._upscale((GrayPixels if mode == 'L' else ColourPixels)(picture, dtype), room)
        if outscale is not None and outscale != self.scale:
            size = [max(int(side * outscale), 1) for side in picture.shape[1::-1]]
            result = cv2.resize(result, size, interpolation=cv2.INTER_LANCZOS4)
        if mode == 'RGBA':
            settle_alpha(result[..., 3], picture[..., 3])
        return result, mode

    def _upscale_alpha(self, alpha: np.ndarray, dtype: np.dtype, upsampler: str, room: int) -> np.ndarray:
        alpha = np.ascontiguousarray(alpha)
        if upsampler == 'bicubic':
            return enlarge_by_cubic(alpha, dtype, self.scale)
        return self._upscale(GrayPixels(alpha, dtype), room)

    def _upscale(self, pixels: Pixels, room: int) -> np.ndarray:
        """Upscale a picture, with tiles that get smaller as long as memory runs out.

        Args:
            pixels: The picture.
            room: Bytes of the host's memory that its results will take.
        """
        unpadded = pixels.picture.shape[:2]
        pixels.picture = pad_picture(pixels.picture, self.pre_pad, self._multiple)
        height, width = pixels.picture.shape[:2]
        result = np.empty((height * self.scale, width * self.scale, *pixels.channels), pixels.dtype)
        while True:
            plan = self._planner.plan(height, width, room)
            try:
                self._upscale_tiles(pixels, plan, result)
                return np.ascontiguousarray(result[:unpadded[0] * self.scale, :unpadded[1] * self.scale])
            except MemoryError as error:
                failure = MemoryError(*error.args)  # without the frames of the other, which hold what took the memory
            self._planner.shrink(plan, failure)

    def _upscale_tiles(self, pixels: Pixels, plan: TilePlan, result: np.ndarray) -> None:
        self.tiles = plan.tiles
        stitcher = Stitcher(result, self.scale, plan.blend)
        for done, tile in enumerate(plan.tiles, 1):
            batch = pixels.to_batch(tile.rows.window, tile.columns.window)
            stitcher.add(tile, pixels.from_batch(self._run(batch)))
            if self.on_tile is not None:
                self.on_tile(done, len(plan.tiles))

    def _run(self, batch: np.ndarray) -> np.ndarray:
        """Run one batch; a result that is not finite is computed again in single precision."""
        try:
            return self._engine(batch)
        except NonFiniteError:
            if not self._engine.half:
                raise
            logger.warning('a tile overflowed in half precision and is computed again in float32')
            self._engine.release()  # or both would keep their memory
        if self._exact_engine is None:
            # A copy, because the torch engine moves a module to its precision, and the first engine may share it.
            self._exact_engine = make_engine(self._network.copy(), self._device, half=False, threads=self._threads)
        return self._exact_engine(batch)

    # ---- the steps of 0.3.0, for code written against them; enhance() does not use them ----

    def pre_process(self, img: np.ndarray) -> None:
        """Set `self.img` to the padded picture, (1, 3, H, W) on the device, from HxWx3 RGB in 0..1."""
        import torch
        padded = pad_picture(img.astype(np.float32), self.pre_pad, self.mod_scale or 1)
        self._unpadded = img.shape[:2]
        parameter = next(self.model.parameters())
        self.img = torch.from_numpy(padded).permute(2, 0, 1)[None].to(parameter.device, parameter.dtype)

    def process(self) -> None:
        """Set `self.output` to the network's result for `self.img`, without tiles."""
        import torch
        with torch.inference_mode():
            self.output = self.model(self.img)

    def tile_process(self) -> None:
        """Set `self.output` to the network's result for `self.img`, put together from tiles."""
        import torch
        height, width = self.img.shape[2:]
        with torch.inference_mode():
            self.output = self.img.new_empty((1, 3, height * self.scale, width * self.scale))
            for tile in cut_into_tiles(height, width, self.tile_size, self.tile_pad, self.mod_scale or 1):
                upscaled = self.model(self.img[..., tile.rows.window, tile.columns.window])
                self.output[..., tile.rows.target(self.scale), tile.columns.target(self.scale)] = upscaled[
                    ..., tile.rows.crop(self.scale), tile.columns.crop(self.scale)]

    def post_process(self) -> torch.Tensor:
        """Cut off from `self.output` what `pre_process` added, and return it, (1, 3, scale*H, scale*W)."""
        height, width = self._unpadded
        self.output = self.output[..., :height * self.scale, :width * self.scale]
        return self.output
