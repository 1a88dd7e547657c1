"""Real-ESRGAN inference: upscale images and videos (Wang et al., ICCVW 2021).

Importing the package imports nothing else. PyTorch is imported only where it is needed: on a GPU, for faces, by the
torch engine, and for modules and tensors that are asked for.
"""
from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from .version import __version__

if TYPE_CHECKING:
    from importlib.machinery import ModuleSpec
    from types import ModuleType

    from .upscaling.upsampler import RealESRGANer

__all__ = ['RealESRGANer', '__version__']


def __getattr__(name: str) -> Any:
    if name == 'RealESRGANer':
        from .upscaling.upsampler import RealESRGANer
        return RealESRGANer
    if name in ('archs', 'utils'):  # as after `import realesrgan` of 0.3.0, for `realesrgan.utils.RealESRGANer`
        from importlib import import_module
        return import_module(f'.{name}', __name__)
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')


class _FunctionalTensor:
    """Finds and loads `torchvision.transforms.functional_tensor`, which basicsr imports, and so gfpgan and facexlib.

    torchvision 0.17 removed it, and has its functions in `torchvision.transforms.functional`:
    https://github.com/XPixelGroup/BasicSR/issues/533
    """

    name = 'torchvision.transforms.functional_tensor'

    @classmethod
    def find_spec(cls, name: str, *_: object) -> ModuleSpec | None:
        """See `importlib.abc.MetaPathFinder`; asked last of all, so only where torchvision has no such module."""
        if name != cls.name:
            return None
        from importlib.util import spec_from_loader
        loader: Any = cls()
        return spec_from_loader(name, loader)

    def create_module(self, spec: ModuleSpec) -> None:
        """See `importlib.abc.Loader`."""

    def exec_module(self, module: ModuleType) -> None:
        """See `importlib.abc.Loader`."""
        from torchvision.transforms import functional
        module.__dict__['__getattr__'] = lambda name: getattr(functional, name)


sys.meta_path.append(_FunctionalTensor)
