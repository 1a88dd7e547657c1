"""`RealESRGANer`: a picture in, a larger one out, both numpy arrays in host memory."""
from __future__ import annotations

import copy
import logging
import math
from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import nn

from ..engines.choice import make_engine
from ..engines.devices import pick_device
from ..engines.engine import Engine
from ..engines.memory import bytes_per_pixel, check_room, result_bytes, usable_bytes
from ..errors import NonFiniteError, UnknownNetworkError
from ..models import NetworkShape, RRDBNetShape, identify_network
from ..weights.loading import build_network, interpolate, load_state_dict
from .blending import Stitcher
from .pixels import ColourPixels, GrayPixels, Pixels, cubic, fill_hidden, settle
from .tiles import Tile, cut, cut_evenly, pad_picture

logger = logging.getLogger(__name__)

_SMALLEST_TILE = 32
_ALPHA_UPSAMPLERS = ('realesrgan', 'bicubic')


class RealESRGANer:
    """Upscales pictures with one network.

    Args:
        scale: Scale of the network: 4, 2 or 1.
        model_path: Weights: a path or URL as `weights.load_state_dict` takes it, two of them to interpolate (see
            `dni_weight`), or None when `model` holds its weights already.
        dni_weight: The shares of the two weight files, such as [0.3, 0.7] (deep network interpolation).
        model: The network; None reads it off the weights.
        tile: Side of the tiles in input pixels that the picture is cut into, 0 for none. Smaller needs less memory.
        tile_pad: Input pixels that a tile sees around itself.
        pre_pad: Pixels added by reflection on the right and below before the network runs, and cut off afterwards.
        half: Compute in half precision where the device is faster with it (see `engines.devices.pick_dtype`).
        device: A PyTorch device or its name; None picks the first GPU, else the CPU.
        gpu_id: Number of the GPU to use when `device` is None.
        engine: 'torch', 'openvino' or 'auto' (see `engines.choice.make_engine`).
        max_memory: Bytes that the network may take while it runs, beside its weights and the result; None is most of
            what is free. With `tile` 0 a picture that would need more is cut into tiles that need less.
        threads: How many a CPU computes with, None for the engine's own choice. PyTorch's are those of the process.

    Attributes:
        on_tile: Called after each tile with the number of tiles done and their total; None at first.

    Raises:
        ValueError: an argument out of range, or a `scale` that is not the network's.
        WeightsError, DownloadError: the weights can't be had.
        DeviceError: the device is not there.

    Source: `RealESRGANer` of Real-ESRGAN 0.3.0, whose arguments, attributes and methods it keeps.
    """

    def __init__(self, scale: int, model_path: str | Path | Sequence[str | Path] | None,
                 dni_weight: Sequence[float] | None = None, model: nn.Module | None = None, tile: int = 0,
                 tile_pad: int = 10, pre_pad: int = 10, half: bool = False,
                 device: str | torch.device | None = None, gpu_id: int | None = None, *, engine: str = 'auto',
                 max_memory: int | None = None, threads: int | None = None) -> None:
        for name, value in (('tile', tile), ('tile_pad', tile_pad), ('pre_pad', pre_pad)):
            if value < 0:
                raise ValueError(f'{name} is {value}; it must be 0 or more')
        self.scale = scale
        self.tile_size = tile
        self.tile_pad = tile_pad
        self.pre_pad = pre_pad
        self.mod_scale = {2: 2, 1: 4}.get(scale)
        self.half = half
        self.device = pick_device(device, gpu_id)
        self.on_tile: Callable[[int, int], None] | None = None

        network = _network(model_path, dni_weight, model)
        own_scale = getattr(network, 'scale', scale)
        if own_scale != scale:
            raise ValueError(f'scale is {scale}, but the network upscales by {own_scale}')
        self._engine = make_engine(network, scale, self.device, half=half, name=engine, threads=threads)
        self._exact_engine: Engine | None = None
        self.model = network
        self._shape = _shape(network)
        self._smallest_tile = max(_SMALLEST_TILE, 4 * self._shape.blend) if self._shape else _SMALLEST_TILE
        self._max_memory = max_memory
        self._limit = 0  # side of the tiles, or of automatic windows, that memory was found to allow; 0: any
        self._fitting = (0, 0), 0  # the last picture's sides, and of its largest window
        logger.info('engine: %s', self._engine.description)

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
            The picture, round-down(outscale*H) x round-down(outscale*W) with the input's channels (gray as HxW),
            uint8, or uint16 for 16-bit input; and its kind: 'L', 'RGB' or 'RGBA'.

        Raises:
            TypeError: another dtype.
            ValueError: another shape or an argument out of range.
            NonFiniteError: the network's result is not finite, in single precision either.
            MemoryError: not enough memory even for the smallest tiles, of 32 pixels (64 and 128 for x2 and x1).
        """
        if alpha_upsampler not in _ALPHA_UPSAMPLERS:
            raise ValueError(f'alpha_upsampler is {alpha_upsampler!r}; allowed are {", ".join(_ALPHA_UPSAMPLERS)}')
        if outscale is not None and not 0 < outscale < float('inf'):
            raise ValueError(f'outscale is {outscale}; it must be above 0')
        dtype = _depth(_checked(img))
        room = result_bytes(img.size * dtype.itemsize, self.scale, outscale, alpha=img.ndim == 3 and img.shape[2] == 4)
        check_room(room)
        picture = _plain(img)
        mode = 'L' if picture.ndim == 2 else {3: 'RGB', 4: 'RGBA'}[picture.shape[2]]
        if mode == 'RGBA':
            colours = self._upscale(ColourPixels(fill_hidden(picture, dtype), dtype), room)
            result = np.dstack((colours, self._upscale_alpha(picture[..., 3], dtype, alpha_upsampler, room)))
        else:
            result = self._upscale((GrayPixels if mode == 'L' else ColourPixels)(picture, dtype), room)
        if outscale is not None and outscale != self.scale:
            size = [max(int(side * outscale), 1) for side in picture.shape[1::-1]]
            result = cv2.resize(result, size, interpolation=cv2.INTER_LANCZOS4)
        if mode == 'RGBA':
            settle(result[..., 3], picture[..., 3])
        return result, mode

    def _upscale_alpha(self, alpha: np.ndarray, dtype: np.dtype, upsampler: str, room: int) -> np.ndarray:
        alpha = np.ascontiguousarray(alpha)
        if upsampler == 'bicubic':
            return cubic(alpha, dtype, self.scale)
        return self._upscale(GrayPixels(alpha, dtype), room)

    def _upscale(self, pixels: Pixels, room: int) -> np.ndarray:
        """Run a picture, padded, in tiles, halved while memory runs out; `room` is what its results take of it."""
        unpadded = pixels.picture.shape[:2]
        pixels.picture = pad_picture(pixels.picture, self.pre_pad, self.mod_scale or 1)
        height, width = pixels.picture.shape[:2]
        result = np.empty((height * self.scale, width * self.scale, *pixels.channels), pixels.dtype)
        while True:
            tiles, blend = self._tiles(height, width, room)
            try:
                self._upscale_tiles(pixels, tiles, Stitcher(result, self.scale, blend))
                return np.ascontiguousarray(result[:unpadded[0] * self.scale, :unpadded[1] * self.scale])
            except MemoryError as error:
                first, border = tiles[0], 0 if self.tile_size else self._border
                side = max(first.rows.padded_stop, first.columns.padded_stop) if border else max(
                    first.rows.stop, first.columns.stop)
                smallest = border + (_SMALLEST_TILE if self.tile_size else self._smallest_tile)
                if side <= smallest:
                    raise MemoryError(
                        f'not enough memory on {self.device} even for tiles of {max(side - border, 1)} pixels. Close '
                        'other programs, or use a smaller model such as realesr-general-x4v3') from error
                if not self._limit:
                    logger.warning('not enough memory on %s; trying smaller tiles (set them with -t)', self.device)
                self._limit = max(side // 2, smallest)
                self._engine.release()

    def _tiles(self, height: int, width: int, room: int) -> tuple[list[Tile], int]:
        """Return the tiles of a picture and by how much they are blended.

        Tiles that were asked for are cut as 0.3.0 cuts them; those that memory asks for see all they depend on.
        """
        multiple = self.mod_scale or 1
        if self.tile_size:
            return cut(height, width, min(self.tile_size, self._limit or self.tile_size), self.tile_pad, multiple), 0
        if self._fitting[0] != (height, width):  # what has fitted once, fits again
            self._fitting = (height, width), self._largest_window(height, width, room)
        window = min(self._fitting[1], self._limit or self._fitting[1])
        return cut_evenly(height, width, window, self._reach, multiple), (self._shape or RRDBNetShape()).blend

    @property
    def _reach(self) -> int:
        """What automatic tiles see around themselves."""
        return max(self.tile_pad, (self._shape or RRDBNetShape()).reach)

    @property
    def _border(self) -> int:
        """What the windows of automatic tiles have beyond the tiles, on both sides together."""
        return 2 * (self._reach + (self.mod_scale or 1))

    def _largest_window(self, height: int, width: int, room: int) -> int:
        """Return the side of the largest window that memory allows, or of the picture if it is no larger."""
        if self._shape is None:
            return max(height, width)
        for_pixel = bytes_per_pixel(self._shape, self._engine.kind, half=self._engine.half)
        allowed = self._max_memory or usable_bytes(self.device, room)
        if height * width * for_pixel > allowed and not self._max_memory:
            self._engine.release()
            allowed = usable_bytes(self.device, room)
        if height * width * for_pixel <= allowed:
            return max(height, width)
        window = max(math.isqrt(allowed // for_pixel), self._smallest_tile + self._border)
        logger.info('tiles of %d pixels: the whole picture would need about %.1f GiB, %.1f are %s',
                    window - self._border, height * width * for_pixel / 2 ** 30, allowed / 2 ** 30,
                    'allowed' if self._max_memory else 'free')
        return window

    def _upscale_tiles(self, pixels: Pixels, tiles: list[Tile], stitcher: Stitcher) -> None:
        for done, tile in enumerate(tiles, 1):
            stitcher.add(tile, pixels.result(self._run(pixels.batch(tile.rows.window, tile.columns.window))))
            if self.on_tile is not None:
                self.on_tile(done, len(tiles))

    def _run(self, batch: np.ndarray) -> np.ndarray:
        """Run one batch; a result that is not finite is computed again in single precision."""
        try:
            return self._engine(batch)
        except NonFiniteError:
            if not self._engine.half:
                raise
            logger.warning('a tile overflowed in half precision and is computed again in float32')
        if self._exact_engine is None:
            self._exact_engine = make_engine(copy.deepcopy(self.model), self.scale, self.device, half=False,
                                             name='torch')
        return self._exact_engine(batch)

    # ---- the steps of 0.3.0, for code written against them; enhance() does not use them ----

    def pre_process(self, img: np.ndarray) -> None:
        """Set `self.img` to the padded picture, (1, 3, H, W) on the device, from HxWx3 RGB in 0..1."""
        padded = pad_picture(img.astype(np.float32), self.pre_pad, self.mod_scale or 1)
        self._unpadded = img.shape[:2]
        parameter = next(self.model.parameters())
        self.img = torch.from_numpy(padded).permute(2, 0, 1)[None].to(parameter.device, parameter.dtype)

    @torch.inference_mode()
    def process(self) -> None:
        """Set `self.output` to the network's result for `self.img`, untiled."""
        self.output = self.model(self.img)

    @torch.inference_mode()
    def tile_process(self) -> None:
        """Set `self.output` to the network's result for `self.img`, put together from tiles."""
        height, width = self.img.shape[2:]
        self.output = self.img.new_empty((1, 3, height * self.scale, width * self.scale))
        for tile in cut(height, width, self.tile_size, self.tile_pad, self.mod_scale or 1):
            upscaled = self.model(self.img[..., tile.rows.window, tile.columns.window])
            self.output[..., tile.rows.target(self.scale), tile.columns.target(self.scale)] = upscaled[
                ..., tile.rows.crop(self.scale), tile.columns.crop(self.scale)]

    def post_process(self) -> torch.Tensor:
        """Cut what `pre_process` has added off `self.output` and return it, (1, 3, scale*H, scale*W)."""
        height, width = self._unpadded
        self.output = self.output[..., :height * self.scale, :width * self.scale]
        return self.output


def _network(model_path: str | Path | Sequence[str | Path] | None, dni_weight: Sequence[float] | None,
             model: nn.Module | None) -> nn.Module:
    """Return the network with its weights."""
    if model_path is None:
        if model is None:
            raise ValueError('neither model_path nor model is given')
        return model.requires_grad_(False)
    if isinstance(model_path, (str, Path)):
        state_dict, origin = load_state_dict(model_path), str(model_path)
    else:
        if dni_weight is None or len(model_path) != 2 or len(dni_weight) != 2:
            raise ValueError('two weight files need dni_weight with two shares')
        first, second = (load_state_dict(path) for path in model_path)
        state_dict, origin = interpolate(first, second, dni_weight), ' + '.join(map(str, model_path))
    if model is None:
        return build_network(state_dict, origin)
    model.load_state_dict(state_dict, strict=True)
    return model.requires_grad_(False)


def _shape(network: nn.Module) -> NetworkShape | None:
    """Return the network's hyper-parameters; None for a network that is none of ours."""
    try:
        return identify_network(network.state_dict())
    except UnknownNetworkError:
        return None


def _checked(img: np.ndarray) -> np.ndarray:
    """Return the picture if it is of a kind that `enhance` takes."""
    channels = img.shape[2] if img.ndim == 3 else 1
    if img.ndim not in (2, 3) or channels not in (1, 3, 4) or img.size == 0:
        raise ValueError(f'a picture of shape {img.shape}; allowed are HxW, HxWx1, HxWx3 and HxWx4, none of them 0')
    if img.dtype not in (np.uint8, np.uint16) and img.dtype.kind != 'f':
        raise TypeError(f'a picture of dtype {img.dtype}; allowed are uint8, uint16 and floating point')
    return img


def _depth(img: np.ndarray) -> np.dtype:
    """Return the dtype of the result: the input's, for floating point by the original's rule."""
    if img.dtype.kind == 'f':
        return np.dtype(np.uint16 if img.max() > 256 else np.uint8)
    return img.dtype


def _plain(img: np.ndarray) -> np.ndarray:
    """Drop a last axis of one, and bring floating point to float32."""
    img = img[..., 0] if img.ndim == 3 and img.shape[2] == 1 else img
    return np.ascontiguousarray(img, np.float32 if img.dtype.kind == 'f' else img.dtype)
