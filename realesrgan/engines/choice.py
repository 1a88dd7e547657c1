"""Which engine runs a network."""
from __future__ import annotations

import importlib.util

import torch
from torch import nn

from ..errors import DeviceError, EngineError, RealESRGANError, UnknownNetworkError
from ..models import identify_network
from .devices import pick_dtype
from .engine import ENGINES, Engine
from .torch import TorchEngine


def make_engine(network: nn.Module, scale: int, device: torch.device, *, half: bool, name: str = 'auto',
                threads: int | None = None) -> Engine:
    """Return an engine for a network.

    Args:
        network: The network. The torch engine moves it to the device and precision; OpenVINO copies its weights.
        scale: Its scale.
        device: Where it runs.
        half: Half precision where the device is faster with it (see `devices.pick_dtype`).
        name: One of `ENGINES`; 'auto' is OpenVINO on a CPU where it is installed and knows the network, else torch.
        threads: How many a CPU computes with, None for the engine's own choice. PyTorch's are those of the process.

    Raises:
        ValueError: another name.
        EngineError: OpenVINO is not installed or does not know the network.
        DeviceError: OpenVINO on a GPU.
    """
    if name not in ENGINES:
        raise ValueError(f'engine is {name!r}; allowed are {", ".join(ENGINES)}')
    dtype = pick_dtype(device, half)
    reason = _against_openvino(network, device)
    if threads is not None:
        torch.set_num_threads(threads)
    if name == 'torch' or (name == 'auto' and reason is not None):
        return TorchEngine(network, scale, device, dtype)
    if reason is not None:
        raise reason
    from .openvino import OpenVINOEngine
    return OpenVINOEngine(network, bfloat16=dtype == torch.bfloat16, threads=threads)


def _against_openvino(network: nn.Module, device: torch.device) -> RealESRGANError | None:
    """Return why OpenVINO can't run the network on the device; None if it can."""
    if device.type != 'cpu':
        return DeviceError(f'the engine openvino runs on the CPU, not on {device}')
    if importlib.util.find_spec('openvino') is None:
        return EngineError('the engine openvino is not installed: pip install openvino')
    try:
        identify_network(network.state_dict())
    except UnknownNetworkError as error:
        return EngineError(f'the engine openvino does not know this network: {error}')
    return None
