"""Architectures of the user's own, from a file outside the package."""
from __future__ import annotations

import contextlib
import hashlib
import inspect
import sys
import traceback
import types
from pathlib import Path

from ..errors import ArchModuleError, flatten_message
from .architecture import NetworkConfig


def load_arch_module(path: str | Path) -> tuple[type[NetworkConfig], ...]:
    """Run a Python file and return the architectures that it defines: its subclasses of `NetworkConfig`.

    A file with the same content is run once in a process.

    Raises:
        ArchModuleError: it can't be read, it fails, or it defines none; the message names the file and the line.
    """
    path = Path(path)
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ArchModuleError(f'{path}: {error.strerror or error}') from None
    name = f'realesrgan_arch_module_{hashlib.sha256(content).hexdigest()[:16]}'
    if name not in sys.modules:
        _run(path, content, name)
    configs = tuple(value for value in vars(sys.modules[name]).values()
                   if isinstance(value, type) and issubclass(value, NetworkConfig) and value.__module__ == name)
    for config in configs:
        if inspect.isabstract(config) or not (hasattr(config, 'architecture') and hasattr(config, 'first_parameter')):
            raise ArchModuleError(f'{path}: {config.__name__} lacks one of architecture, first_parameter, from_shapes '
                                  'and build')
    if not configs:
        raise ArchModuleError(f'{path}: defines no subclass of realesrgan.archs.architecture.NetworkConfig')
    return configs


def _run(path: Path, content: bytes, name: str) -> None:
    module = types.ModuleType(name)
    module.__file__ = str(path)
    sys.modules[name] = module  # where dataclasses look for it
    try:
        with contextlib.redirect_stdout(sys.stderr):  # for stdout may be the result's
            exec(compile(content, path, 'exec'), vars(module))  # noqa: S102  # it is what --arch_module is for
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        del sys.modules[name]
        raise explain_failure(error, str(path)) from error


def require_traits(config: NetworkConfig) -> None:
    """Ask an architecture of the user's own for all that upscaling will ask it.

    Raises:
        ValueError: an answer is of no use.
        Exception: whatever its code raises.
    """
    for name, least, more in (('scale', 1, ()), ('multiple', 1, ()), ('blend', 0, ()), ('receptive_field', 0, (None,))):
        value = getattr(config, name)
        if value not in more and not (isinstance(value, int) and value >= least):
            raise ValueError(f'{type(config).__name__}.{name} is {value!r}; it must be a whole number, {least} or more')
    for precision in ('float32', 'float16', 'bfloat16'):
        config.runs_in(precision)
    float(config.values_per_pixel or 0)


def explain_failure(error: BaseException, path: str) -> ArchModuleError:
    """Return what went wrong in a file of the user's, and in which line."""
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == path]
    line = error.lineno if isinstance(error, SyntaxError) else lines[-1] if lines else None
    where = f'{path}, line {line}' if line else path
    return ArchModuleError(f'{where}: {type(error).__name__}: {flatten_message(error)}')
