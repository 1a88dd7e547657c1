"""Read weight files that `torch.save` has written, without PyTorch, whose import takes longer than most pictures.

Such a file is a zip archive (since PyTorch 1.6): `NAME/data.pkl` is a pickle, in which each tensor refers to its bytes,
`NAME/data/0` and so on. `torch.load` does the same with more kinds of files, and says what is wrong with a bad one.
"""
from __future__ import annotations

import io
import math
import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

#: What numpy calls the contents of a storage of PyTorch's. There is no bfloat16: it is the upper half of a float32.
_DTYPES = {'FloatStorage': '<f4', 'DoubleStorage': '<f8', 'HalfStorage': '<f2', 'BFloat16Storage': '<u2',
           'LongStorage': '<i8', 'IntStorage': '<i4', 'ShortStorage': '<i2', 'CharStorage': '<i1', 'ByteStorage': '<u1',
           'BoolStorage': '?'}

#: Bytes of a tensor that repeats the few values of its storage, which could go on without an end.
MOST_REPEATED = 1 << 28


def read_plain_pth(path: Path) -> Mapping[Any, Any] | None:
    """Read a file that holds a mapping of tensors, numbers, strings and the like.

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
    except Exception:  # damaged files fail in any way; torch.load finds out what the matter is
        return None
    return content if isinstance(content, Mapping) else None


class _Unpickler(pickle.Unpickler):
    """Knows the few names that a file of tensors needs, and refuses all others.

    A pickle may call what `find_class` returns, and set its attributes. So that is either a type that can't be changed,
    a string, or a function that no other file gets.
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
    if math.prod(shape) * dtype.itemsize > max(len(values), MOST_REPEATED):
        raise pickle.UnpicklingError(f'{shape} is more than {len(values)} bytes')
    array: np.ndarray = np.ndarray(shape, dtype, values, offset * dtype.itemsize,
                                   [stride * dtype.itemsize for stride in strides])
    if storage_type == 'BFloat16Storage':
        array = np.left_shift(array, 16, dtype=np.uint32).view(np.float32)
    with np.errstate(over='ignore'):  # of float64
        return np.asarray(array, np.float32)
