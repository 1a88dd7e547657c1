"""From weights to a network: load, interpolate, build."""
from __future__ import annotations

import importlib.util
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..archs.architecture import ForeignTraits
from ..archs.loaded import LoadedNetwork
from ..archs.registry import ARCHITECTURES, ENTRY_POINTS, current_names, identify_network
from ..errors import UnknownNetworkError, WeightsError, flatten_message
from ..models import PackagedWeights
from .reading import convert_to_tensors, load_packaged, read_content, read_weights
from .sources import DATA_PACKAGE, WeightSources, obtain, resolve

if TYPE_CHECKING:
    from torch import nn

    from ..archs.architecture import NetworkConfig

logger = logging.getLogger(__name__)

Arrays = Mapping[str, np.ndarray]

_MOST_NAMES = 3  # of parameters in an error


def load_model(name: str = 'RealESRGAN_x4plus', model_path: str | Path | None = None,
               denoise_strength: float | None = None) -> nn.Module:
    """Return a model's network with its weights; logs a warning if the denoise strength has no effect.

    Args:
        name: A key of `MODELS`.
        model_path: A file or URL to take the weights and the network from, instead of the model's own.
        denoise_strength: 0..1, for a model that has a denoise partner: 1 is the model alone, 0 the partner alone. None
            is 0.5.

    Returns:
        The network, a PyTorch module, on the CPU, in float32 and evaluation mode.

    Raises:
        UsageError: unknown name.
        WeightsError: the weights can't be loaded, or the partner beside `model_path` is missing.
        DownloadError: the weights are not at hand and can't be fetched.
    """
    return load_network(resolve(name, model_path, denoise_strength, warn=True)).module


def load_network(sources: WeightSources, *, log: bool = True) -> LoadedNetwork:
    """Return a network with its weights, given the result of `sources.resolve` or `prefetch`.

    Log lines say which weights were used, and of which network if it is not our own, unless `log` is False.

    Args:
        sources: Where the weights are.

    Raises:
        WeightsError: they can't be loaded, or fit no known network.
    """
    spec = sources.spec
    content: Arrays
    if isinstance(sources.main, PackagedWeights):
        content, origin = load_packaged(sources.main, spec.network), f'{spec.name} of the package {DATA_PACKAGE}'
    else:
        path = obtain(sources.main)
        content, origin = read_content(path), sources.model_path or str(path)
    if sources.partner is not None:
        partner = obtain(sources.partner)
        content = interpolate(current_names(content), read_weights(partner), sources.shares)
        origin = f'{origin} x {sources.shares[0]:g} + {partner} x {sources.shares[1]:g}'
    network = build_network(content, sources.model_path or spec.name)
    if log:
        logger.info('weights: %s', origin)
        if isinstance(network.traits, ForeignTraits):
            logger.info('network: %s x%d, by spandrel', network.traits.architecture, network.scale)
    return network


def load_for_upsampler(scale: int, model_path: str | Path | Sequence[str | Path] | None,
                       dni_weight: Sequence[float] | None, model: nn.Module | LoadedNetwork | None) -> LoadedNetwork:
    """Return a network with its weights, given the arguments of `RealESRGANer` that say which.

    Args:
        scale: Its scale, where the network itself does not say it.
        model_path, dni_weight, model: As `RealESRGANer` takes them.

    Raises:
        ValueError: the arguments name no weights, or two files without two shares.
        WeightsError: the weights can't be loaded, or fit no known network.
        RuntimeError: they do not fit `model`.
    """
    if model_path is None:
        if model is None:
            raise ValueError('neither model_path nor model is given')
        if isinstance(model, LoadedNetwork):
            return model
        return LoadedNetwork.from_module(model.requires_grad_(False), scale)
    if isinstance(model_path, (str, Path)):
        if model is None:
            return build_network(read_content(model_path), model_path)
        arrays, origin = read_weights(model_path), str(model_path)
    else:
        if dni_weight is None or len(model_path) != 2 or len(dni_weight) != 2:
            raise ValueError('two weight files need dni_weight with two shares')
        first, second = (read_weights(path) for path in model_path)
        arrays, origin = interpolate(first, second, dni_weight), ' + '.join(map(str, model_path))
    if model is None:
        return build_network(arrays, origin)
    module = model.module if isinstance(model, LoadedNetwork) else model
    module.load_state_dict(convert_to_tensors(arrays), strict=True)
    return LoadedNetwork.from_module(module.requires_grad_(False), scale)


def interpolate(first: Arrays, second: Arrays, shares: Sequence[float]) -> dict[str, np.ndarray]:
    """Return `shares[0] * first + shares[1] * second` (deep network interpolation, Wang et al., CVPR 2019).

    Raises:
        WeightsError: the two hold different parameters.
    """
    if {name: t.shape for name, t in first.items()} != {name: t.shape for name, t in second.items()}:
        raise WeightsError('the two weight files to interpolate are of different networks')
    main, partner = map(np.float32, shares)
    return {name: main * array + partner * second[name] for name, array in first.items()}


def build_network(arrays: Arrays, origin: str | Path) -> LoadedNetwork:
    """Return the network that weights belong to, which must fit it exactly.

    Built-in architectures are tried first, then those of other packages, then spandrel's, which need PyTorch.

    Args:
        arrays: As `reading.read_content` returns them.
        origin: The source, for errors.

    Raises:
        WeightsError: they fit no known network.
    """
    try:
        return _build_known_network(arrays)
    except UnknownNetworkError as error:
        unknown = error
    if importlib.util.find_spec('spandrel') is None:
        raise WeightsError(f'{origin}: {unknown}; for others: pip install spandrel')
    from ..archs.foreign import load_foreign_network
    try:
        return load_foreign_network(convert_to_tensors(arrays), unknown)
    except UnknownNetworkError as error:
        raise WeightsError(f'{origin}: {error}') from None


def _build_known_network(arrays: Arrays) -> LoadedNetwork:
    """Return the network of the first architecture that arrays fit exactly, the built-in ones before other packages'.

    Raises:
        UnknownNetworkError: they fit none; the message says why, for each that they look like.
    """
    try:
        return _build_fitting_network(current_names(arrays), ARCHITECTURES)
    except UnknownNetworkError as error:
        unknown = error
    from importlib.metadata import entry_points  # here, because most runs don't need it
    for entry_point in entry_points(group=ENTRY_POINTS):
        try:
            architecture = entry_point.load()
            current = architecture.current_names(arrays)
            if architecture.first_parameter in current:
                return _build_fitting_network(current, [architecture])
        except UnknownNetworkError as error:
            unknown = UnknownNetworkError(f'{unknown}; {error}')
        except Exception as error:  # of any kind, because it is the code of others
            logger.warning('the architecture %s is left out: %s: %s', entry_point.value, type(error).__name__,
                           flatten_message(error))
            logger.debug('%s', entry_point.value, exc_info=error)
    raise unknown


def _build_fitting_network(arrays: Arrays, architectures: Sequence[type[NetworkConfig]]) -> LoadedNetwork:
    """Return the network with an array of the right size for each parameter, and no other array.

    Raises:
        UnknownNetworkError: there is none; the message names some of the arrays that do not fit.
    """
    config = identify_network(arrays, architectures)
    wanted = config.parameter_shapes()

    def describe(size: tuple[int, ...]) -> str:
        return 'x'.join(map(str, size)) or 'a number'

    misfits = {
        'missing': [name for name in wanted if name not in arrays],
        'unexpected': [str(name) for name in arrays if name not in wanted],
        'of another size': [f'{name} ({describe(arrays[name].shape)}, not {describe(size)})'
                            for name, size in wanted.items() if name in arrays and arrays[name].shape != size]}
    if any(misfits.values()):
        raise UnknownNetworkError(f'it does not fit {config.architecture} as its first layer has it: ' + '; '.join(
            f'{kind}: {", ".join(names[:_MOST_NAMES])}{" ..." * (len(names) > _MOST_NAMES)}'
            for kind, names in misfits.items() if names))
    return LoadedNetwork(config, {name: arrays[name] for name in wanted})
