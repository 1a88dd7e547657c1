"""The kernel's libraries: one for each instruction set, built from the same sources; finding and loading the best.

This needs only the standard library, because the build imports it.
"""
from __future__ import annotations

import ctypes
import functools
import hashlib
import logging
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from ...errors import EngineError, KernelError
from ..cpu import list_cpu_features

logger = logging.getLogger(__name__)

FOLDER = Path(__file__).resolve().parent
SOURCES = FOLDER / 'winograd.c', FOLDER / 'lanczos.c'

_ADVICE = 'run `make`, or `python -m realesrgan.engines.kernel.build`'
_SUFFIX = {'win32': '.dll', 'darwin': '.dylib'}.get(sys.platform, '.so')


class Variant(NamedTuple):
    """The kernel for one instruction set.

    Attributes:
        name: A part of the library's name.
        machines: Those that it is built on, as `platform.machine()` calls them, in lower case.
        features: Those that a processor must have to run it, under the names of `cpu.list_cpu_features`.
        flags: For the compiler.
    """

    name: str
    machines: frozenset[str]
    features: frozenset[str]
    flags: tuple[str, ...]


_X86, _ARM = frozenset({'x86_64', 'amd64'}), frozenset({'aarch64', 'arm64'})

_AVX512 = frozenset({'avx512f', 'avx512vl', 'avx512bw', 'avx512dq', 'fma'})
_AVX512_FLAGS = ('-mavx512f', '-mavx512vl', '-mavx512bw', '-mavx512dq', '-mfma', '-mavx2', '-mprefer-vector-width=512')

#: Best first. Those with VNNI have int16 steps.
VARIANTS: tuple[Variant, ...] = (
    Variant('avx512_vnni', _X86, _AVX512 | {'avx512_vnni'}, (*_AVX512_FLAGS, '-mavx512vnni')),
    Variant('avx512', _X86, _AVX512, _AVX512_FLAGS),
    Variant('avx_vnni', _X86, frozenset({'avx2', 'fma', 'avx_vnni'}), ('-mavx2', '-mfma', '-mavxvnni')),
    Variant('avx2', _X86, frozenset({'avx2', 'fma'}), ('-mavx2', '-mfma')),
    # gcc's other way to add atomically is a function of its own library, which is not linked.
    Variant('neon', _ARM, frozenset({'asimd'}), ('-mno-outline-atomics',)),
)


def name_library(variant: str, folder: Path = FOLDER) -> Path:
    """Return where the library of a variant lies on this system."""
    return folder / f'libwinograd-{variant}{_SUFFIX}'


def hash_source() -> str:
    """Return the hash of the sources; a library's `realesrgan_source_hash()` is that of the sources it was built from.

    Raises:
        OSError: a source can't be read.
    """
    return hashlib.sha256(b''.join(source.read_bytes() for source in SOURCES)).hexdigest()[:16]


# ---- as winograd.c has them ----

#: The most input groups that are multiplied at a time, and that a step takes; and the longest side of a block of
#: pixels.
CHUNK_GROUPS, MOST_GROUPS, MOST_BLOCK = 4, 64, 16
MOST_CHUNKS = MOST_GROUPS // CHUNK_GROUPS
#: The most blocks of tiles in a task.
MOST_RUNS = 64

LOAD, CONVOLVE, STORE = range(3)

#: As lanczos.c has them: pixels, along an axis, that make up one of the result.
TAPS = 8


class Wait(ctypes.Structure):
    """Rows of another step that a task waits for; see `winograd.c`."""

    _fields_ = tuple((name, ctypes.c_int32) for name in ('step', 'behind', 'up', 'down', 'more', 'columns'))


class Step(ctypes.Structure):
    """A step of a program; see `winograd.c`."""

    _fields_ = (
        ('kind', ctypes.c_int32), ('height', ctypes.c_int32), ('width', ctypes.c_int32), ('turned', ctypes.c_int32),
        ('advance', ctypes.c_int32), ('lag', ctypes.c_int32),
        ('groups_in', ctypes.c_int32), ('groups_out', ctypes.c_int32), ('doubled', ctypes.c_int32),
        ('band_rows', ctypes.c_int32), ('task_tiles', ctypes.c_int32),
        ('run', ctypes.c_int32), ('task_runs', ctypes.c_int32),
        ('wait_count', ctypes.c_int32), ('waits', ctypes.c_void_p), ('done', ctypes.c_void_p),
        ('inputs', ctypes.c_void_p * MOST_GROUPS), ('in_ring', ctypes.c_int32 * MOST_GROUPS),
        ('in_row', ctypes.c_int64),
        ('out', ctypes.c_void_p), ('out_row', ctypes.c_int64), ('out_plane', ctypes.c_int64),
        ('out_ring', ctypes.c_int32),
        ('kept', ctypes.c_void_p * MOST_CHUNKS), ('kept_ring', ctypes.c_int32 * MOST_CHUNKS),
        ('is_there', ctypes.c_int32 * MOST_CHUNKS),
        ('is_float', ctypes.c_int32),
        ('weights', ctypes.c_void_p), ('scales', ctypes.c_void_p),
        ('bias', ctypes.c_void_p), ('slope', ctypes.c_void_p),
        ('residual', ctypes.c_void_p * 2), ('residual_plane', ctypes.c_int64 * 2),
        ('residual_ring', ctypes.c_int32 * 2), ('residual_scale', ctypes.c_float * 2),
        ('pixels', ctypes.c_void_p), ('line', ctypes.c_int64), ('block', ctypes.c_int32),
        ('base_ring', ctypes.c_int32), ('base', ctypes.c_void_p), ('base_row', ctypes.c_int64),
    )


class Segment(ctypes.Structure):
    """Steps that advance together; see `winograd.c`."""

    _fields_ = tuple((name, ctypes.c_int32) for name in ('first', 'end', 'waves'))


class Program(ctypes.Structure):
    """Segments, and the state that threads share; see `winograd.c`."""

    _fields_ = (
        ('steps', ctypes.POINTER(Step)), ('segments', ctypes.POINTER(Segment)), ('segment_count', ctypes.c_int32),
        ('not_finite', ctypes.c_int32), ('next_ticket', ctypes.c_int64), ('stop', ctypes.c_int32),
        ('yield_address', ctypes.c_void_p),
    )


class Kernel:
    """The compiled kernel.

    Args:
        path: The shared library.

    Attributes:
        path: The shared library.
        variant: The instruction set that it was built for.
        block: Tiles that its matrix product computes at a time.
        panel: Output channels likewise.
        kept_floats: Floats that V of as many tiles takes where it is kept.
        has_ints: Whether it has steps in int16.
        round_weights: Transforms weights for these; see `winograd.c`.
        run: Works on a program until it is done, with scratch memory; the GIL is free meanwhile.
        count_scratch_floats: Returns the floats of scratch memory that a thread needs, by the tiles of a task and the
            groups of the widest feature.
        count_tickets: Counts the tasks of a program.
        resize: Resizes rows of a picture; see `lanczos.c`.

    Raises:
        OSError: it can't be loaded, or is of another version.
    """

    def __init__(self, path: Path) -> None:
        library = ctypes.CDLL(str(path))
        if library.realesrgan_step_bytes() != ctypes.sizeof(Step):
            raise OSError(f'{path}: of another version')
        self.path = path
        self.variant = path.stem.split('-')[1]
        self.block: int = library.realesrgan_task_tiles()
        self.panel: int = library.realesrgan_panel()
        self.kept_floats: int = library.realesrgan_kept_floats()
        self.has_ints = bool(library.realesrgan_has_ints())
        self.round_weights: Callable[[int, int, int, int], None] = library.realesrgan_round_weights
        library.realesrgan_round_weights.argtypes = (ctypes.c_void_p, ctypes.c_int32, ctypes.c_void_p, ctypes.c_void_p)
        library.realesrgan_round_weights.restype = None
        self.count_scratch_floats: Callable[[int, int], int] = library.realesrgan_scratch_floats
        library.realesrgan_scratch_floats.restype = ctypes.c_int64
        self.run: Callable[[object, int], None] = library.realesrgan_run
        library.realesrgan_run.argtypes = (ctypes.POINTER(Program), ctypes.c_void_p)
        library.realesrgan_run.restype = None
        self.count_tickets: Callable[[object], int] = library.realesrgan_count_tickets
        library.realesrgan_count_tickets.argtypes = (ctypes.POINTER(Program),)
        library.realesrgan_count_tickets.restype = ctypes.c_int64
        self.resize: Callable[..., None] = library.realesrgan_resize
        library.realesrgan_resize.argtypes = (
            ctypes.c_void_p, *[ctypes.c_int32] * 3, ctypes.c_void_p, ctypes.c_int32, ctypes.c_void_p, ctypes.c_void_p,
            ctypes.c_int32, ctypes.c_int32, ctypes.c_void_p)
        library.realesrgan_resize.restype = None


@functools.cache
def get_kernel() -> Kernel:
    """Return the kernel of this process, which is loaded once; see `find_kernel`."""
    return find_kernel()


def list_variants(features: frozenset[str]) -> list[str]:
    """Return the names of the variants that a processor can run, best first.

    Args:
        features: What `cpu.list_cpu_features` returns.
    """
    return [variant.name for variant in VARIANTS if variant.features <= features]


def find_kernel(folder: Path = FOLDER) -> Kernel:
    """Return the best kernel for this processor that was built.

    If a better one was built and can't be used, a warning says why.

    Args:
        folder: Where the libraries are.

    Raises:
        KernelError: none was built, or none that was built can be used.
        EngineError: there is none for such a processor.
    """
    names = list_variants(list_cpu_features())
    if not names:
        raise EngineError('the engine winograd has no kernel for this processor: it needs AVX2 with FMA, AVX-512, or '
                          'a 64-bit Arm processor')
    refusals = []
    for name in names:
        if not name_library(name, folder).exists():
            continue
        try:
            kernel = load_variant(name, folder)
        except KernelError as error:
            refusals.append(error)
            continue
        for refusal in refusals:
            logger.warning('%s; the kernel for %s runs instead', refusal, name)
        return kernel
    if refusals:
        raise refusals[0]
    raise KernelError(f'the kernel of the engine winograd was not built for {" or ".join(names)}: {_ADVICE}')


def load_variant(name: str, folder: Path = FOLDER) -> Kernel:
    """Return the kernel for one instruction set; see `find_kernel`.

    Args:
        name: One of `list_variants(list_cpu_features())`: others would crash.
        folder: Where the libraries are.

    Raises:
        KernelError: it was not built, was built from another version or can't be loaded.
    """
    library = name_library(name, folder)
    try:
        if hash_source().encode() not in library.read_bytes():  # looked up in the file, before anything in it can run
            raise KernelError(f'{library.name} was built from another version: {_ADVICE}')
        return Kernel(library)
    except FileNotFoundError as error:
        raise KernelError(f'{library.name} was not built: {_ADVICE}') from error
    except OSError as error:
        raise KernelError(f"{library.name} can't be loaded: {error}") from error
