"""The kernel's libraries: one for each instruction set, built from one source. This needs only the standard library."""
from __future__ import annotations

import hashlib
import sys
from dataclasses import dataclass
from pathlib import Path

FOLDER = Path(__file__).resolve().parent
SOURCE = FOLDER / 'winograd.c'

_SUFFIX = {'win32': '.dll', 'darwin': '.dylib'}.get(sys.platform, '.so')


@dataclass(frozen=True)
class Variant:
    """The kernel for one instruction set.

    Attributes:
        name: A part of the library's name.
        machines: What `platform.machine()` calls machines that it is built on, in lower case.
        features: What a processor must have to run it, under the names of `engines.cpu.list_cpu_features`.
        flags: What the compiler needs to be told.
    """

    name: str
    machines: frozenset[str]
    features: frozenset[str]
    flags: tuple[str, ...]

    @property
    def library(self) -> str:
        """The name of its library on this system."""
        return f'libwinograd-{self.name}{_SUFFIX}'


_X86, _ARM = frozenset({'x86_64', 'amd64'}), frozenset({'aarch64', 'arm64'})

#: Best first.
VARIANTS: tuple[Variant, ...] = (
    Variant('avx512', _X86, frozenset({'avx512f', 'avx512vl', 'avx512bw', 'avx512dq', 'fma'}),
            ('-mavx512f', '-mavx512vl', '-mavx512bw', '-mavx512dq', '-mfma', '-mavx2', '-mprefer-vector-width=512')),
    Variant('avx2', _X86, frozenset({'avx2', 'fma'}), ('-mavx2', '-mfma')),
    # gcc's other way to add atomically is a function of its own library, which is not linked.
    Variant('neon', _ARM, frozenset({'asimd'}), ('-mno-outline-atomics',)),
)


def hash_source() -> str:
    """Return what `realesrgan_source_hash()` of a library that was built from today's source returns.

    Raises:
        OSError: the source can't be read.
    """
    return hashlib.sha256(SOURCE.read_bytes()).hexdigest()[:16]
