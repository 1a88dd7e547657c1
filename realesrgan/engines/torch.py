"""The PyTorch engine: any device, float32 or half precision."""
from __future__ import annotations

import numpy as np
import torch
from torch import nn

from ..errors import NonFiniteError

# Page-locked memory, into which a GPU copies by itself, is kept by PyTorch for the next batch: not for whole pictures.
_MOST_PINNED_BYTES = 64 << 20


class TorchEngine:
    """Runs a network in PyTorch; see `Engine` for the interface.

    Args:
        network: Maps (N, 3, H, W), RGB in 0..1, to (N, 3, scale*H, scale*W). It is moved to `device` and `dtype`.
        scale: The network's scale.
        device: Where it runs.
        dtype: Its precision.
    """

    kind = 'torch'

    def __init__(self, network: nn.Module, scale: int, device: torch.device, dtype: torch.dtype) -> None:
        self.scale = scale
        self.half = dtype != torch.float32
        self.network = network.to(device, dtype).to(memory_format=torch.channels_last).eval()
        self.description = f'torch, {device}, {str(dtype).removeprefix("torch.")}'
        self._device = device
        self._dtype = dtype

    @torch.inference_mode()
    def __call__(self, batch: np.ndarray) -> np.ndarray:
        try:
            result = self.network(self._prepared(batch))
            if not torch.isfinite(result.sum(dtype=torch.float32)):
                raise NonFiniteError(f'the network gave values that are not finite ({self.description})')
            return self._on_host(_finished(result, batch.dtype)).numpy()
        except RuntimeError as error:
            if is_out_of_memory(error):
                raise MemoryError(f'{self.description}: {str(error).splitlines()[0]}') from error
            raise

    def release(self) -> None:
        if self._device.type != 'cpu':
            getattr(torch, self._device.type).empty_cache()

    def _prepared(self, batch: np.ndarray) -> torch.Tensor:
        """Return NHWC pixels as an NCHW tensor of RGB in 0..1 on the device; its memory stays NHWC (channels_last)."""
        pixels = torch.from_numpy(np.ascontiguousarray(batch[..., ::-1])).to(self._device)
        if pixels.dtype == torch.uint8:
            pixels = pixels.float().div_(255)
        return pixels.to(self._dtype).permute(0, 3, 1, 2)

    def _on_host(self, result: torch.Tensor) -> torch.Tensor:
        if self._device.type != 'cuda' or result.nbytes > _MOST_PINNED_BYTES:
            return result.cpu()
        return torch.empty(result.shape, dtype=result.dtype, pin_memory=True).copy_(result)


def _finished(result: torch.Tensor, dtype: np.dtype) -> torch.Tensor:
    """Return the network's NCHW result as NHWC, BGR, clamped, in the batch's dtype; quantised on the device."""
    pixels = result.float().clamp_(0, 1)
    if dtype == np.uint8:
        pixels = pixels.mul_(255).round_().to(torch.uint8)
    return pixels.flip(1).permute(0, 2, 3, 1).contiguous()


def is_out_of_memory(error: BaseException) -> bool:
    """Tell whether an error of PyTorch means that the device, or the host, has not enough memory."""
    text = str(error).lower()
    return isinstance(error, torch.OutOfMemoryError) or any(
        sign in text for sign in ('out of memory', "can't allocate memory", 'not enough memory'))
