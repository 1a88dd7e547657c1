"""From weights to a network: load, interpolate, build."""
from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ..archs.registry import identify_network
from ..errors import UnknownNetworkError, WeightsError
from ..models import PackagedWeights
from .reading import load_packaged, load_state_dict
from .sources import DATA_PACKAGE, WeightSources, obtain, resolve

if TYPE_CHECKING:
    import torch
    from torch import nn

    from ..archs.network import Network

logger = logging.getLogger(__name__)

StateDict = Mapping[str, 'torch.Tensor']


def load_model(name: str = 'RealESRGAN_x4plus', model_path: str | Path | None = None,
               denoise_strength: float | None = None) -> Network:
    """Return a model's network with its weights; logs a warning if the denoise strength has no effect.

    Args:
        name: A key of `MODELS`.
        model_path: A file or URL to take the weights and the network from, instead of the model's own.
        denoise_strength: 0..1, for a model that has a denoise partner: 1 is the model alone, 0 the partner alone. None
            is 0.5.

    Returns:
        The network on the CPU, in float32 and evaluation mode.

    Raises:
        KeyError: unknown name.
        WeightsError: the weights can't be loaded, or the partner beside `model_path` is missing.
        DownloadError: the weights are not at hand and can't be fetched.
    """
    sources = resolve(name, model_path, denoise_strength)
    sources.warn_of_ignored_strength()
    return load_network(sources)


def load_network(sources: WeightSources) -> Network:
    """Return a network with its weights, as `load_model` does, from what `sources.resolve` or `prefetch` returned.

    One log line says which weights were used.
    """
    spec = sources.spec
    if isinstance(sources.main, PackagedWeights):
        state_dict, origin = load_packaged(sources.main, spec.network), f'{spec.name} of the package {DATA_PACKAGE}'
    else:
        path = obtain(sources.main)
        state_dict, origin = load_state_dict(path), sources.model_path or str(path)
    if sources.partner is not None:
        partner = obtain(sources.partner)
        state_dict = interpolate(state_dict, load_state_dict(partner), sources.shares)
        origin = f'{origin} x {sources.shares[0]:g} + {partner} x {sources.shares[1]:g}'
    logger.info('weights: %s', origin)
    return build_network(state_dict, sources.model_path or spec.name)


def load_for_upsampler(model_path: str | Path | Sequence[str | Path] | None, dni_weight: Sequence[float] | None,
                       model: nn.Module | None) -> nn.Module:
    """Return a network with its weights, given the arguments of `RealESRGANer` that say which.

    Raises:
        ValueError: the arguments name no weights, or two files without two shares.
        WeightsError: the weights can't be loaded, or fit no known network.
        RuntimeError: they do not fit `model`.
    """
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


def interpolate(first: StateDict, second: StateDict, shares: Sequence[float]) -> dict[str, torch.Tensor]:
    """Return `shares[0] * first + shares[1] * second` (deep network interpolation, Wang et al., CVPR 2019).

    Raises:
        WeightsError: the two hold different parameters.
    """
    if {name: t.shape for name, t in first.items()} != {name: t.shape for name, t in second.items()}:
        raise WeightsError('the two weight files to interpolate are of different networks')
    return {name: shares[0] * tensor + shares[1] * second[name] for name, tensor in first.items()}


def build_network(state_dict: StateDict, origin: str | Path) -> Network:
    """Build the network that a state dict belongs to and load it with strict=True.

    Args:
        state_dict: As `load_state_dict` returns it.
        origin: What an error names as the source.

    Returns:
        The network on the CPU, frozen and in evaluation mode.

    Raises:
        WeightsError: it fits no known network.
    """
    import torch
    try:
        shape = identify_network(state_dict)
    except UnknownNetworkError as error:
        raise WeightsError(f'{origin}: {error}') from None
    with torch.device('meta'):  # no time is spent on random weights that are replaced at once
        network = shape.build()
    try:
        network.load_state_dict(state_dict, strict=True, assign=True)
    except RuntimeError as error:
        raise WeightsError(f'{origin}: does not fit {type(network).__name__} as its first layer has it: '
                           f'{_shorten(error)}') from None
    network.requires_grad_(False).eval()
    return network


def _shorten(error: Exception) -> str:
    """Return the first two lines of an error of torch's, which would go on to name every parameter."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return ' '.join(lines[:2]) or type(error).__name__
