"""The PyTorch engine: any device, float32 or half precision."""
from __future__ import annotations

import numpy as np
import torch
from torch import nn

from ..archs.loaded import LoadedNetwork
from ..archs.registry import ARCHITECTURES
from ..errors import NonFiniteError, RealESRGANError
from .devices import Device

_MOST_PINNED_BYTES = 64 << 20


class TorchEngine:
    """Runs a network in PyTorch; see `Engine` for the interface.

    Args:
        network: Maps (N, 3, H, W), RGB in 0..1, to (N, 3, scale*H, scale*W). It is moved to `device` and `dtype`.
        scale: The network's scale.
        device: Where it runs.
        dtype: Its precision.
        layout: How pixels and weights lie in memory; the networks of others may need `torch.contiguous_format`.
        most_pinned_bytes: Results up to this size reach the host through page-locked memory, into which a CUDA device
            copies faster. PyTorch keeps that memory for the next batch, which is too much for whole pictures.
    """

    name = 'torch'

    def __init__(self, network: nn.Module, scale: int, device: torch.device, dtype: torch.dtype, *,
                 layout: torch.memory_format = torch.channels_last,
                 most_pinned_bytes: int = _MOST_PINNED_BYTES) -> None:
        self.scale = scale
        self.half = dtype != torch.float32
        self.network = network.to(device, dtype).to(memory_format=layout).eval()
        self.device = device
        self.description = f'torch, {device}, {str(dtype).removeprefix("torch.")}'
        self._dtype = dtype
        self._layout = layout
        self._most_pinned_bytes = most_pinned_bytes

    @torch.inference_mode()
    def __call__(self, batch: np.ndarray) -> np.ndarray:
        try:
            result = self.network(self._prepare(batch))
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
            raise

    def release(self) -> None:
        if self.device.type != 'cpu':
            getattr(torch, self.device.type).empty_cache()

    def _prepare(self, batch: np.ndarray) -> torch.Tensor:
        """Return NHWC pixels as an NCHW tensor of RGB in 0..1 on the device, in the layout asked for."""
        pixels = torch.from_numpy(np.ascontiguousarray(batch[..., ::-1])).to(self.device)
        if pixels.dtype == torch.uint8:
            pixels = pixels.float().div_(255)
        return pixels.to(self._dtype).permute(0, 3, 1, 2).contiguous(memory_format=self._layout)

    def _copy_to_host(self, result: torch.Tensor) -> torch.Tensor:
        if self.device.type != 'cuda' or result.nbytes > self._most_pinned_bytes:
            return result.cpu()
        return torch.empty(result.shape, dtype=result.dtype, pin_memory=True).copy_(result)


def explain_refusal(network: LoadedNetwork) -> RealESRGANError | None:  # noqa: ARG001
    """Return None: PyTorch runs every network."""
    return None


def make(network: LoadedNetwork, device: Device, precision: str, threads: int | None) -> TorchEngine:
    """Return an engine; see `EngineModule.make`. PyTorch's threads are set for the whole process."""
    if threads is not None:
        torch.set_num_threads(threads)
    if not network.traits.runs_in(precision):
        precision = 'float32'
    # The networks of this package are faster with channels last. Those of others may count on the usual order.
    layout = torch.channels_last if type(network.traits) in ARCHITECTURES else torch.contiguous_format
    return TorchEngine(network.module, network.scale, torch.device(str(device)), getattr(torch, precision),
                       layout=layout)


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
