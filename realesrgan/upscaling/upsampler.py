"""`RealESRGANer`: a picture in, a larger one out, both numpy arrays in host memory."""
from __future__ import annotations

import contextlib
import copy
import functools
import logging
import math
import numbers
from collections.abc import Callable, Hashable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..archs.architecture import find_multiple_of_0_3_0
from ..archs.loaded import LoadedNetwork
from ..archs.registry import ARCHITECTURES
from ..engines.choice import make_engine, pick_device, settle_device
from ..engines.cpu import count_cores
from ..engines.devices import Device
from ..engines.engine import AUTO, VULKAN, Engine
from ..engines.lanczos import resize
from ..engines.memory import estimate_result_memory, require_memory
from ..errors import NonFiniteError
from ..weights.loading import interpolate, load_for_upsampler
from ..weights.reading import convert_to_tensors, read_weights
from .pixels import (
    Pixels,
    check_picture,
    choose_depth,
    enlarge_by_cubic,
    fill_hidden_colours,
    mix_with_input,
    normalise_layout,
    settle_alpha,
    to_unit,
)
from .planner import TilePlan, TilePlanner
from .size import scale_size
from .tiles import Stitcher, Tile, cut_into_tiles, pad_picture

if TYPE_CHECKING:
    import torch
    from torch import nn

logger = logging.getLogger(__name__)


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
        engine: A name from `engines.engine` or 'auto' (see `engines.choice.make_engine`); or an engine that is ready to
            run the network, for which `half` and `threads` are not used.
        max_memory: Bytes that the network may take while it runs, beside its weights, and on a CPU with the result;
            None is most of what is free. With `tile` 0 a picture that would need more is cut into tiles that need less.
        threads: The number of threads that a CPU computes with, None for the engine's own choice. That of the torch
            engine holds for PyTorch in the whole process.
        largest_window: Side of the largest window of the network's input with `tile` 0; 0 for what memory allows.

    Attributes:
        scale, tile_size, tile_pad, pre_pad, mod_scale, half, device, model: As in 0.3.0. They may be changed between
            pictures, and so may the weights of `model`. The last two import PyTorch where the engine has not done so.
        engine: Runs the network.
        on_tile: Called with the number of tiles done and their total after each tile, and, where the engine knows it,
            several times a second with the share of the next one added; None at first. What it raises ends the picture.
        tiles: The tiles of the last picture, in its own pixels.
        in_flight: How many pictures like the last one may be submitted beyond the one whose result is waited for; 0:
            nothing is gained by that.

    Raises:
        ValueError: an argument out of range, or a `scale` that is not the network's.
        WeightsError, DownloadError: the weights can't be loaded or fetched.
        DeviceError: the device is not there, or the engine does not run on it.
        EngineError: the engine is not installed, or does not know the network.

    Source: `RealESRGANer` of Real-ESRGAN 0.3.0, whose arguments, attributes and methods it keeps. Where one of its
    steps (`pre_process`, `process`, `tile_process`, `post_process`) has been replaced, `model` is a callable but no
    PyTorch module, or `scale` is no longer the network's, `enhance` calls these steps, and PyTorch runs the network.
    """

    # Defaults for subclasses with an __init__ of their own that does not call this one.
    scale: int
    tile_size = 0
    tile_pad = 10
    pre_pad = 10
    mod_scale: int | None = None
    mod_pad_h = mod_pad_w = 0
    half = False
    on_tile: Callable[[float, int], None] | None = None
    tiles: Sequence[Tile] = ()
    in_flight = 0
    _assigned_model: Any = None  # for which no engine has been made
    _assigned_device: Any = None
    _network: LoadedNetwork | None = None
    _device: Device | None = None
    _picked: Device | None = None  # by us; None where the caller named one
    _engine: Engine | None = None
    _exact_engine: Engine | None = None
    _made_for: Hashable = None
    _module_state: Hashable = None  # as the engine has it; None where there is no module yet
    _engine_name = AUTO
    _max_memory: int | None = None
    _threads: int | None = None
    _largest_window = 0

    def __init__(self, scale: int, model_path: str | Path | Sequence[str | Path] | None,
                 dni_weight: Sequence[float] | None = None, model: nn.Module | LoadedNetwork | None = None,
                 tile: int = 0, tile_pad: int = 10, pre_pad: int = 10, half: bool = False,
                 device: str | torch.device | Device | None = None, gpu_id: int | None = None, *,
                 engine: str | Engine = 'auto', max_memory: int | None = None, threads: int | None = None,
                 largest_window: int = 0) -> None:
        for name, value in (('tile', tile), ('tile_pad', tile_pad), ('pre_pad', pre_pad)):
            if value < 0:
                raise ValueError(f'{name} is {value}; it must be 0 or more')
        self.scale = scale
        self.tile_size = tile
        self.tile_pad = tile_pad
        self.pre_pad = pre_pad
        self.half = half
        self._engine_name = engine if isinstance(engine, str) else AUTO
        self._device = pick_device(device, gpu_id, self._engine_name)
        self._picked = self._device if device is None else None
        self._max_memory = max_memory
        self._threads = threads
        self._largest_window = largest_window
        self._network = load_for_upsampler(scale, model_path, dni_weight, model)
        if self._network.scale != scale:
            raise ValueError(f'scale is {scale}, but the network upscales by {self._network.scale}')
        self._make_engine(self._network, None if isinstance(engine, str) else engine)

    @property
    def model(self) -> nn.Module:
        """The network as a PyTorch module; where the torch engine runs it, on the device and in its precision."""
        if self._assigned_model is not None:
            return self._assigned_model
        if self._network is None:
            raise AttributeError('model is not set')
        module = self._network.module
        if self._module_state is None:  # it is new, and so as the engine has it
            self._module_state = self._network.read_module_state()
        return module

    @model.setter
    def model(self, model: nn.Module) -> None:
        self._assigned_model = model

    @property
    def device(self) -> torch.device:
        """The device that was picked, the CPU in place of one that PyTorch can't use; or what was assigned to it."""
        if self._assigned_device is not None:
            return self._assigned_device
        import torch
        device = self._settle_device()
        return torch.device('cpu' if device.type == VULKAN else str(device))

    @device.setter
    def device(self, device: str | torch.device | Device | None) -> None:
        self._assigned_device = device
        self._device = None if device is None else Device.parse(device)
        self._picked = None

    @property
    def device_type(self) -> str:
        """The kind of the device: 'cpu', 'cuda' ..."""
        return self._settle_device().type

    @property
    def engine(self) -> Engine:
        """The engine that runs the network."""
        self._update()
        assert self._engine is not None
        return self._engine

    def __getstate__(self) -> dict[str, Any]:
        """Leave the engine out of copies and pickles, whose next picture makes a new one."""
        if self._network is not None:
            self._network = self._reread_changed(self._network)
        made = ('_engine', '_exact_engine', '_planner', '_made_for', '_module_state')
        return {name: value for name, value in vars(self).items() if name not in made}

    def enhance(self, img: np.ndarray, outscale: float | None = None, alpha_upsampler: str = 'realesrgan', *,
                size: tuple[int, int] | None = None, strength: float = 1.0) -> tuple[np.ndarray, str]:
        """Upscale one picture.

        Args:
            img: HxW or HxWx1 (gray), HxWx3 (BGR) or HxWx4 (BGRA). uint8 and uint16 use their full range. Floating
                point is taken as 0..65535 if any value is above 256, else as 0..255.
            outscale: Final size as a multiple of the input's, by LANCZOS4; None is the network's scale.
            alpha_upsampler: 'realesrgan' takes alpha through the network, 'bicubic' and all else interpolate it.
            size: Final width and height, likewise, in place of `outscale`.
            strength: The network's share of the colours, 0..1; the rest is the input's, see `mix_with_input`.

        Returns:
            The picture, of `size` or floor(outscale*H) x floor(outscale*W), with the input's channels (gray as HxW),
            uint8, or uint16 for 16-bit input; and its kind: 'L', 'RGB' or 'RGBA'.

        Raises:
            TypeError: another dtype, or no array at all.
            ValueError: another shape, or an argument out of range.
            NonFiniteError: the network's result is not finite, in single precision either.
            MemoryError: not enough memory even for the smallest tiles, of 32 pixels (64 and 128 for x2 and x1).
        """
        return self.submit(img, outscale, alpha_upsampler, size=size, strength=strength)()

    def submit(self, img: np.ndarray, outscale: float | None = None, alpha_upsampler: str = 'realesrgan', *,
               size: tuple[int, int] | None = None, strength: float = 1.0) -> Callable[[], tuple[np.ndarray, str]]:
        """Begin a picture, which is not changed meanwhile; return what waits for its result, once, in order.

        Arguments, result and errors are those of `enhance`. While a result is waited for, `in_flight` more pictures may
        be in work.
        """
        _check_options(outscale, size, strength)
        check_picture(img)
        by_steps = self._takes_steps()
        dtype = choose_depth(img)
        height, width = img.shape[:2]
        if outscale is not None and outscale != self.scale:
            size = scale_size(width, height, outscale)
        elif size is not None:
            size = size[0], size[1]  # a list would do too
        final_size = size or scale_size(width, height, self.scale)
        final = math.prod(final_size) / (height * width)
        copies = (size is not None) + (strength < 1)  # of the final size
        room = estimate_result_memory(img.size * dtype.itemsize, self.scale, copies * final,
                                      alpha=img.shape[2:] == (4,))
        require_memory(room, *final_size)
        picture = normalise_layout(img)
        mode = 'L' if picture.ndim == 2 else {3: 'RGB', 4: 'RGBA'}[picture.shape[2]]
        visible = fill_hidden_colours(picture, dtype) if mode == 'RGBA' else picture

        def begin(plane: np.ndarray, size: tuple[int, int] | None = None) -> Callable[[], np.ndarray]:
            pixels = Pixels(plane, dtype)
            return functools.partial(self._upscale_by_steps, pixels) if by_steps else self._begin(pixels, room, size)

        wait = begin(visible, size if mode == 'RGB' else None)

        def finish() -> tuple[np.ndarray, str]:
            result = wait()
            if mode == 'RGBA':
                alpha = np.ascontiguousarray(picture[..., 3])
                result = np.dstack((result, begin(alpha)() if alpha_upsampler == 'realesrgan'
                                    else enlarge_by_cubic(alpha, dtype, result.shape[1::-1])))
            if size is not None and size != result.shape[1::-1]:
                result = resize(result, size, self._threads or count_cores())
            if strength < 1:
                mix_with_input(result, visible, float(strength))
            if mode == 'RGBA':
                settle_alpha(result[..., 3], picture[..., 3])
            return result, mode
        return finish

    # ---- by the engine ----

    def _begin(self, pixels: Pixels, room: int, size: tuple[int, int] | None) -> Callable[[], np.ndarray]:
        """Begin a picture; return what waits for the network's result.

        Args:
            pixels: The picture, which is padded.
            room: Bytes of the host's memory that the results of `submit` will take.
            size: Final width and height, which the result may have already; None if there is more to do before.
        """
        engine = self._engine
        assert engine is not None
        height, width = pixels.picture.shape[:2]
        pixels.picture = pad_picture(pixels.picture, self.pre_pad, self._multiple)
        is_padded = pixels.picture.shape[:2] != (height, width)
        plan, begun = self._plan(pixels, room), None
        self.in_flight = engine.in_flight * plan.together if len(plan.tiles) == 1 else 0
        if self.in_flight and pixels.channels:
            begun = engine.submit(pixels.to_batch(plan.tiles[0]), None if is_padded else size, plan.together)

        def wait() -> np.ndarray:
            nonlocal begun
            result = None
            if begun is not None:
                with contextlib.suppress(MemoryError, NonFiniteError):  # for which there are ways out, below
                    result = pixels.from_batch(begun())
                    self.tiles = plan.tiles
                    if self.on_tile is not None:
                        self.on_tile(1, 1)
            if result is None:
                begun = None  # or the error that it keeps, whose traceback holds this frame, would keep the pictures
            while result is None:
                tried = self._plan(pixels, room)
                try:
                    result = self._upscale(pixels, tried)
                except MemoryError as error:
                    failure = MemoryError(*error.args)  # without the frames of the other, which hold what took memory
                else:
                    break
                self._planner.shrink(tried, failure)
            return np.ascontiguousarray(result[:height * self.scale, :width * self.scale] if is_padded else result)
        return wait

    def _plan(self, pixels: Pixels, room: int) -> TilePlan:
        self._planner.tile, self._planner.tile_pad = self.tile_size, self.tile_pad
        height, width = pixels.picture.shape[:2]
        return self._planner.plan(height, width, room, deep=pixels.dtype != np.uint8)

    def _upscale(self, pixels: Pixels, plan: TilePlan) -> np.ndarray:
        """Return the network's result, put together from tiles."""
        engine, report, total = self._engine, self.on_tile, len(plan.tiles)
        assert engine is not None
        self.tiles = plan.tiles
        height, width = pixels.picture.shape[:2]
        result = np.empty((height * self.scale, width * self.scale, *pixels.channels), pixels.dtype)
        stitcher = Stitcher(result, self.scale, plan.blend)
        for done, tile in enumerate(plan.tiles):
            engine.on_progress = None if report is None else lambda share, done=done: report(done + share, total)
            upscaled = pixels.from_batch(self._run(pixels.to_batch(tile)))
            if total > 1:
                stitcher.add(tile, upscaled)
            else:
                result = upscaled  # nobody has written to the other, which so has taken no memory
            if report is not None:
                report(done + 1, total)
        return result

    def _run(self, batch: np.ndarray) -> np.ndarray:
        """Run the engine; what is not finite in half precision is computed again in single precision."""
        engine, network = self._engine, self._network
        assert engine is not None
        assert network is not None
        try:
            return engine(batch)
        except NonFiniteError:
            if not engine.half:
                raise
            logger.warning('a tile overflowed in half precision and is computed again in float32')
            engine.release()  # or both would keep their memory
        if self._exact_engine is None:
            # A copy, because the torch engine moves a module to its precision, and the first engine may share it.
            self._exact_engine = make_engine(copy.deepcopy(network), self._settle_device(), half=False,
                                             threads=self._threads)
        self._exact_engine.on_progress = engine.on_progress
        return self._exact_engine(batch)

    # ---- the network and its engine ----

    def _takes_steps(self) -> bool:
        """Bring network and engine up to date; return whether the steps of 0.3.0 upscale, not the engine by itself."""
        replaced = any(getattr(getattr(self, name), '__func__', None) is not step for name, step in _STEPS.items())
        if not replaced and self._assigned_model is not None:
            from torch import nn
            replaced = not isinstance(self._assigned_model, nn.Module)
        return replaced or self._update().scale != self.scale

    def _update(self) -> LoadedNetwork:
        """Bring the network and its engine up to the model and the attributes as they are now; return the network."""
        network, model = self._network, self._assigned_model
        if model is not None and (network is None or network.module is not model):
            network, self._engine = LoadedNetwork.from_module(model, self.scale), None
        elif network is not None:
            network = self._reread_changed(network)
        else:
            raise AttributeError('model is not set')
        self._network, self._assigned_model = network, None
        if self._engine is None or self._made_for != (self._settle_device(), self.half, self.mod_scale):
            self._make_engine(network)
        return network

    def _reread_changed(self, network: LoadedNetwork) -> LoadedNetwork:
        """Return the network; read anew if its module has been changed."""
        state = network.read_module_state()
        if state == self._module_state:
            return network
        self._module_state, self._engine = state, None
        return network.reread()

    def _make_engine(self, network: LoadedNetwork, engine: Engine | None = None) -> None:
        """Make an engine and a planner for a network.

        Args:
            network: The network.
            engine: An engine that is ready to run it; None makes one.
        """
        self._engine = self._exact_engine = None  # whose memory the new one may need
        vars(self).pop('_planner', None)  # which holds it too
        self._device = device = self._settle_device(network)
        self._engine = engine or make_engine(network, device, half=self.half, name=self._engine_name,
                                             threads=self._threads)
        self._update_mod_scale()
        # 0.3.0 pads by the scale, whether the network needs it or not.
        is_foreign = type(network.traits) not in ARCHITECTURES
        usual = self.mod_scale == find_multiple_of_0_3_0(self.scale)
        self._multiple = math.lcm(1 if is_foreign and usual else self.mod_scale or 1, network.traits.multiple)
        self._planner = TilePlanner(network.traits, self._engine, device, multiple=self._multiple,
                                    max_memory=self._max_memory, largest_window=self._largest_window)
        self._module_state = network.read_module_state()
        self._made_for = device, self.half, self.mod_scale
        logger.info('engine: %s', self._engine.description)

    def _settle_device(self, network: LoadedNetwork | None = None) -> Device:
        """Return the device; if none was asked for, one that runs the network."""
        if self._device is None:
            self._device = self._picked = pick_device(engine=self._engine_name)
        if network is None or self._picked is None:
            return self._device
        return settle_device(network, self._picked, self._engine_name)

    def _update_mod_scale(self) -> None:
        """Set `mod_scale` by the scale; with a scale that asks for none it stays, as in 0.3.0."""
        multiple = find_multiple_of_0_3_0(self.scale)
        if multiple > 1:
            self.mod_scale = multiple

    # ---- by the steps of 0.3.0 ----

    def _upscale_by_steps(self, pixels: Pixels) -> np.ndarray:
        """Upscale a picture by the four methods below or what has replaced them."""
        import torch
        batch = pixels.to_batch()[0]
        unit = batch if batch.dtype == np.float32 else to_unit(batch, batch.dtype)
        self.in_flight, self.tiles = 0, ()
        with torch.no_grad():
            self.pre_process(np.ascontiguousarray(unit[..., ::-1]))
            if self.tile_size > 0:
                self.tile_process()
            else:
                self.process()
            output = self.post_process()
        rgb = output.detach().reshape(output.shape[-3:]).permute(1, 2, 0).float().cpu().numpy()
        if not np.isfinite(rgb).all():
            raise NonFiniteError('the network gave values that are not finite')
        return pixels.from_batch(np.ascontiguousarray(rgb[None, ..., ::-1].clip(0, 1)))

    def pre_process(self, img: np.ndarray) -> None:
        """Set `self.img` to the padded picture, (1, 3, H, W) on the device, from HxWx3 RGB in 0..1."""
        import torch
        self._update_mod_scale()
        multiple = self.mod_scale or 1
        self.mod_pad_h, self.mod_pad_w = (-(side + self.pre_pad) % multiple for side in img.shape[:2])
        padded = torch.from_numpy(pad_picture(img.astype(np.float32), self.pre_pad, multiple)).permute(2, 0, 1)[None]
        model = self.model
        parameter = next(model.parameters(), None) if isinstance(model, torch.nn.Module) else None
        if parameter is not None:  # which says more than `half`: on a CPU the engine may take float32 all the same
            self.img = padded.to(parameter.device, parameter.dtype)
        else:
            self.img = padded.to(self.device, torch.float16 if self.half else torch.float32)

    def process(self) -> None:
        """Set `self.output` to the network's result for `self.img`, without tiles."""
        import torch
        with torch.no_grad():
            self.output = self.model(self.img)

    def tile_process(self) -> None:
        """Set `self.output` to the network's result for `self.img`, put together from tiles.

        Raises:
            ValueError: `scale` is not the network's.
        """
        import torch
        height, width = self.img.shape[2:]
        self.output = self.img.new_zeros((1, 3, height * self.scale, width * self.scale))
        self.tiles = cut_into_tiles(height, width, self.tile_size, self.tile_pad, self.mod_scale or 1)
        for done, tile in enumerate(self.tiles, 1):
            window = self.img[..., tile.rows.window, tile.columns.window]
            with torch.no_grad():
                upscaled = self.model(window)
            if upscaled.shape[2] != window.shape[2] * self.scale:
                raise ValueError(f'scale is {self.scale}, but the network upscales by '
                                 f'{upscaled.shape[2] / window.shape[2]:g}: set that scale, or tile_size to 0')
            self.output[..., tile.rows.target(self.scale), tile.columns.target(self.scale)] = upscaled[
                ..., tile.rows.crop(self.scale), tile.columns.crop(self.scale)]
            if self.on_tile is not None:
                self.on_tile(done, len(self.tiles))

    def post_process(self) -> torch.Tensor:
        """Cut off from `self.output` what `pre_process` added, and return it, (1, 3, scale*H, scale*W)."""
        height, width = self.output.shape[2:]
        if self.mod_scale is not None:
            height -= self.mod_pad_h * self.scale
            width -= self.mod_pad_w * self.scale
        self.output = self.output[..., :height - self.pre_pad * self.scale, :width - self.pre_pad * self.scale]
        return self.output

    def dni(self, net_a: str | Path, net_b: str | Path, dni_weight: Sequence[float], key: str = 'params',
            loc: str = 'cpu') -> dict[str, dict[str, torch.Tensor]]:
        """Return the weights of two files mixed by two shares, as a state dict on the device `loc` under `key`."""
        mixed = convert_to_tensors(interpolate(read_weights(net_a), read_weights(net_b), dni_weight))
        return {key: {name: tensor.to(loc) for name, tensor in mixed.items()}}


def _check_options(outscale: float | None, size: tuple[int, int] | None, strength: float) -> None:
    """Check what `RealESRGANer.enhance` takes beside the picture."""
    if outscale is not None and not (isinstance(outscale, numbers.Real) and 0 < outscale < float('inf')):
        raise ValueError(f'outscale is {outscale!r}; it must be a number above 0')
    if size is not None and (outscale is not None or len(size) != 2 or min(size) < 1):
        raise ValueError(f'size is {size!r}, and outscale {outscale!r}; one of them must be None, and the sides of '
                         'size 1 or more')
    if not (isinstance(strength, numbers.Real) and 0 <= strength <= 1):
        raise ValueError(f'strength is {strength!r}; allowed is 0 to 1')


_STEPS = {step.__name__: step for step in (
    RealESRGANer.pre_process, RealESRGANer.process, RealESRGANer.tile_process, RealESRGANer.post_process)}
