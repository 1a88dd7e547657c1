"""Networks of other architectures, which the library spandrel recognises and builds."""
from __future__ import annotations

import logging
import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from ..errors import NonFiniteError, UnknownNetworkError, flatten_message
from .architecture import USUAL_WINDOW, ForeignTraits
from .loaded import LoadedNetwork

if TYPE_CHECKING:
    from spandrel import ImageModelDescriptor

logger = logging.getLogger(__name__)

_ALIGNMENTS = {'SCUNet': 64}  # windows of 8 pixels in what was halved three times
_PURPOSES = {'FaceSR': 'restores faces', 'Inpainting': 'fills holes'}


class ForeignNetwork(nn.Module):
    """Maps (1, 3, H, W), RGB in 0..1, to (1, 3, scale*H, scale*W), with sides of any length.

    Args:
        descriptor: The network, as spandrel describes it.

    Attributes:
        scale: Output pixels per input pixel, along a side.
    """

    def __init__(self, descriptor: ImageModelDescriptor[Any]) -> None:
        super().__init__()
        self.scale = descriptor.scale
        self.network = descriptor.model  # a submodule, so that it moves with this one
        self.network.register_forward_hook(_require_finite)
        self._descriptor = descriptor

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Run the network; spandrel pads the picture to the size it needs, and clamps the result."""
        return self._descriptor(x)


def load_foreign_network(state_dict: Mapping[str, torch.Tensor], unknown: UnknownNetworkError) -> LoadedNetwork:
    """Return the network that weights belong to.

    Args:
        state_dict: The weights.
        unknown: Why it is none of this package's own architectures.

    Raises:
        UnknownNetworkError: spandrel can't load it either, or it does not map one RGB picture to one.
    """
    import spandrel
    try:
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')  # PyTorch's, which are not for users
            descriptor = spandrel.ModelLoader().load_from_state_dict(dict(state_dict))
    except Exception as error:  # of any kind, because its loaders trust the weights
        logger.debug('spandrel: %s: %s', type(error).__name__, flatten_message(error))
        raise UnknownNetworkError(f'{unknown}; nor can spandrel {spandrel.__version__} load it') from None
    name, purpose = descriptor.architecture.name, str(descriptor.purpose)
    if not isinstance(descriptor, spandrel.ImageModelDescriptor) or purpose in _PURPOSES:
        raise UnknownNetworkError(f'it is a {name} network, which {_PURPOSES.get(purpose, purpose)}; only networks '
                                  'that take one picture and enlarge or restore it can be used')
    channels = descriptor.input_channels, descriptor.output_channels
    if channels != (3, 3):
        raise UnknownNetworkError(f'it is a {name} network that maps {channels[0]} channels to {channels[1]}; only '
                                  'those that map RGB to RGB can be used')
    # bfloat16 was measured only with this package's own networks.
    precisions = ('float32', 'float16') if descriptor.supports_half else ('float32',)
    traits = ForeignTraits(name, descriptor.scale, descriptor.size_requirements.multiple_of,
                           _ALIGNMENTS.get(name, USUAL_WINDOW), precisions)
    module = ForeignNetwork(descriptor).requires_grad_(False).eval()
    return LoadedNetwork(traits, None, module, UnknownNetworkError(f'it is a {name} network'))


def _require_finite(network: nn.Module, _: object, result: object) -> None:
    """Check a result before spandrel clamps it, which would turn infinity into white."""
    if isinstance(result, torch.Tensor) and not torch.isfinite(result.sum(dtype=torch.float32)):
        raise NonFiniteError(f'the network gave values that are not finite ({type(network).__name__})')
