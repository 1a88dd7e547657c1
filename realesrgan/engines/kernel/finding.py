"""Find the compiled kernel that suits this processor."""
from __future__ import annotations

import logging
from pathlib import Path

from ...errors import EngineError, KernelError
from ..cpu import list_cpu_features
from .library import Kernel
from .variants import FOLDER, VARIANTS, hash_source
from .verdicts import require_passed

logger = logging.getLogger(__name__)

_ADVICE = 'run `make`, or `python -m realesrgan.engines.kernel.build`'
_LIBRARIES = {variant.name: variant.library for variant in VARIANTS}


def list_variants(features: frozenset[str]) -> list[str]:
    """Return the names of the variants that a processor can run, best first.

    Args:
        features: What `cpu.list_cpu_features` returns.
    """
    return [variant.name for variant in VARIANTS if variant.features <= features]


def find_kernel(folder: Path = FOLDER) -> Kernel:
    """Return the best kernel for this processor that was built and passes its self-test.

    The self-test runs when a library is first used on a machine. If a better kernel than the one that is returned was
    built and can't be used, a warning says why.

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
        if not (folder / _LIBRARIES[name]).exists():
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
    """Return the kernel for one instruction set, tested; see `find_kernel`.

    Args:
        name: One of `list_variants(list_cpu_features())`: others would crash.
        folder: Where the libraries are.

    Raises:
        KernelError: it was not built, was built from another version, can't be loaded or fails its self-test.
    """
    library = folder / _LIBRARIES[name]
    try:
        content = library.read_bytes()
        if hash_source().encode() not in content:  # looked up in the file, before anything in it can run
            raise KernelError(f'{library.name} was built from another version of winograd.c: {_ADVICE}')
        require_passed(library, content)
        return Kernel(library)
    except FileNotFoundError as error:
        raise KernelError(f'{library.name} was not built: {_ADVICE}') from error
    except OSError as error:
        raise KernelError(f"{library.name} can't be loaded: {error}") from error
