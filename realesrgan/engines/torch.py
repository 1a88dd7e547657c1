"""The PyTorch engine: any device, float32 or half precision."""
from __future__ import annotations

import numpy as np
import torch

from ..archs.loaded import LoadedNetwork
from ..archs.registry import ARCHITECTURES
from ..errors import BrokenDeviceError, NonFiniteError, flatten_message
from .devices import Device
from .engine import Engine

# Results up to this size reach the host through page-locked memory, into which a CUDA device copies faster. PyTorch
# keeps that memory for the next batch, which is too much for whole pictures.
_MOST_PINNED_BYTES = 64 << 20


class TorchEngine(Engine):
    """Runs a network in PyTorch; see `Engine` for the interface.

    Args:
        network: Its module is moved to the device and precision.
        device: Where it runs.
        precision: float32 is taken instead of one that the network can't be computed in.
        threads: Those of PyTorch, in the whole process.
    """

    name = 'torch'

    def __init__(self, network: LoadedNetwork, device: Device, precision: str, threads: int | None = None) -> None:
        if threads is not None:
            torch.set_num_threads(threads)
        if not network.traits.runs_in(precision):
            precision = 'float32'
        super().__init__(network, device, precision)
        self._device = torch.device(str(device))
        self._dtype = getattr(torch, precision)
        # The networks of this package are faster with channels last. Those of others may count on the usual order.
        is_ours = type(network.traits) in ARCHITECTURES
        self._layout = torch.channels_last if is_ours else torch.contiguous_format
        self._module = network.module.to(self._device, self._dtype).to(memory_format=self._layout).eval()

    @torch.inference_mode()
    def __call__(self, batch: np.ndarray) -> np.ndarray:
        try:
            result = self._module(self._prepare(batch))
            count, height, width = batch.shape[:3]
            wanted = (count, 3, height * self.scale, width * self.scale)
            shape = getattr(result, 'shape', None)
            if shape != wanted:
                raise ValueError(f'for {width}x{height} pixels the network gave {shape or type(result)}, not {wanted}')
            # The sum is finite if all values are, and costs less than to look at each.
            if not torch.isfinite(result.sum(dtype=torch.float32)):
                raise NonFiniteError(f'the network gave values that are not finite ({self.description})')
            return self._copy_to_host(_finish(result, batch.dtype)).numpy()
        except Exception as error:
            if is_out_of_memory(error):
                raise MemoryError(f'{self.description}: {str(error).splitlines()[0]}') from error
            # PyTorch has no class of its own for what a GPU reports on all versions and backends.
            if self._device.type != 'cpu' and isinstance(error, RuntimeError) and not isinstance(
                    error, (NotImplementedError, RecursionError)):
                raise BrokenDeviceError(f'{self.description}: {flatten_message(error)}') from error
            raise

    def release(self) -> None:
        if self._device.type != 'cpu':
            getattr(torch, self._device.type).empty_cache()

    def _prepare(self, batch: np.ndarray) -> torch.Tensor:
        """Return NHWC pixels as an NCHW tensor of RGB in 0..1 on the device, in the network's layout."""
        pixels = torch.from_numpy(np.ascontiguousarray(batch[..., ::-1])).to(self._device)
        if pixels.dtype == torch.uint8:
            pixels = pixels.float().div_(255)
        return pixels.to(self._dtype).permute(0, 3, 1, 2).contiguous(memory_format=self._layout)

    def _copy_to_host(self, result: torch.Tensor) -> torch.Tensor:
        if self._device.type != 'cuda' or result.nbytes > _MOST_PINNED_BYTES:
            return result.cpu()
        return torch.empty(result.shape, dtype=result.dtype, pin_memory=True).copy_(result)


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error of PyTorch's means that the device, or the host, has not enough memory."""
    text = str(error).lower()
    return isinstance(error, torch.OutOfMemoryError) or any(
        sign in text for sign in ('out of memory', "can't allocate memory", 'not enough memory'))


def _finish(result: torch.Tensor, dtype: np.dtype) -> torch.Tensor:
    """Return the network's NCHW result as NHWC, BGR, clamped, in the batch's dtype; quantised on the device."""
    pixels = result.float().clamp_(0, 1)
    if dtype == np.uint8:
        pixels = pixels.mul_(255).round_().to(torch.uint8)
    return pixels.flip(1).permute(0, 2, 3, 1).contiguous()
