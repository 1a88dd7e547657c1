"""Compile the kernel and test it: `python -m realesrgan.engines.kernel.build`.

Compiling needs only the standard library. Every library holds the hash of the sources, so that one that was built
from another version is recognised.
"""
from __future__ import annotations

import argparse
import importlib.util
import os
import platform
import shlex
import shutil
import struct
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from ...files import temporary_folder
from .library import FOLDER, SOURCES, VARIANTS, Variant, hash_source, name_library

# No C library is linked. -ffreestanding, and for gcc the flag below, keep compilers from turning loops into calls of
# memset and memcpy. Large initialisers may still become such calls, which then go to the C library of Python itself.
FLAGS = ('-std=gnu11', '-shared', '-fPIC', '-O3', '-ffreestanding', '-ffp-contract=fast', '-fno-trapping-math',
          '-fno-math-errno', '-fno-signed-zeros')
_GCC_FLAGS = ('-fno-tree-loop-distribute-patterns',)  # clang ignores it, zig does not know it
_ZIG_FLAGS = ('-mcpu=baseline',)  # the flags of the variant are added to this processor, and not to the one at hand

_TEST_SECONDS = 60
_UNTESTED = 1  # an exception ended the self-test: where a wheel is built there is no numpy

_ADVICE = ('Install gcc or clang, or run "python -m pip install ziglang", and then "python -m '
           'realesrgan.engines.kernel.build". Until then pictures are upscaled by OpenVINO.')


def list_compilers() -> list[list[str]]:
    """Return the commands that are there, in the order in which they are tried: $CC, cc, gcc, clang, and ziglang."""
    asked = shlex.split(os.environ.get('CC', ''), posix=os.name != 'nt')
    commands = [asked] if asked else []
    commands += [[name] for name in ('cc', 'gcc', 'clang') if [name] != asked]
    found = [command for command in commands if shutil.which(command[0])]
    if importlib.util.find_spec('ziglang'):
        found.append([sys.executable, '-m', 'ziglang', 'cc'])
    return found


def list_machine_variants() -> list[Variant]:
    """Return the variants that can be built on this machine; none if it has no kernel."""
    machine = platform.machine().lower() if struct.calcsize('P') == 8 else ''  # a Python of 32 bits can't load them
    return [variant for variant in VARIANTS if machine in variant.machines]


def build_kernel(folder: Path = FOLDER) -> tuple[list[Path], str]:
    """Compile the kernel for every instruction set of this machine's architecture.

    Args:
        folder: Where the libraries go. It is made if it is missing.

    Returns:
        The libraries that were built, and one line on what could not be built; '' if everything was.

    Raises:
        OSError: the folder can't be written, or a source can't be read.
    """
    variants, compilers = list_machine_variants(), list_compilers()
    if not variants:
        return [], (f'There is no kernel for this machine ({platform.machine()}); pictures are upscaled by OpenVINO or '
                    'PyTorch.')
    if not compilers:
        return [], f'No C compiler was found: $CC, cc, gcc, clang and ziglang were looked for. {_ADVICE}'
    libraries, failures = [], []
    with temporary_folder(folder / 'kernel') as workplace:
        for variant in variants:
            name, reasons = name_library(variant.name).name, []
            for compiler in compilers:
                if not (reason := _compile(compiler, variant, workplace / name)):
                    (workplace / name).replace(folder / name)
                    libraries.append(folder / name)
                    break
                reasons.append(f'{" ".join(compiler)}: {reason}')
            else:
                failures.append(f'The kernel for {variant.name} could not be built ({"; ".join(reasons)}).')
    return libraries, ' '.join([*failures, _ADVICE] if failures else [])


def _compile(compiler: Sequence[str], variant: Variant, output: Path) -> str:
    """Compile and test one library; return '', or the first error."""
    is_zig = any(Path(word).stem in ('zig', 'ziglang') for word in compiler)
    command = [*compiler, *FLAGS, *(_ZIG_FLAGS if is_zig else _GCC_FLAGS), *variant.flags]
    if sys.platform == 'darwin' and not is_zig:
        command += ['-arch', platform.machine()]  # Python's own, which under Rosetta is not the processor's
    if sys.platform not in ('darwin', 'win32'):
        command.append('-nostdlib')  # the other two systems link nothing without theirs
    command += [f'-DSOURCE_HASH="{hash_source()}"', *map(str, SOURCES), '-o', str(output)]
    # zig would leave what it compiles of its own libraries in the user's cache.
    cache = str(output.parent / 'zig')
    environment = os.environ | {'ZIG_GLOBAL_CACHE_DIR': cache, 'ZIG_LOCAL_CACHE_DIR': cache}
    try:
        result = subprocess.run(command, cwd=output.parent, env=environment, stdin=subprocess.DEVNULL,
                                capture_output=True, text=True, errors='replace')
    except OSError as error:
        return str(error)
    if result.returncode == 0 and output.exists():
        return _test(output)
    lines = [line.strip() for line in result.stderr.splitlines() if line.strip()]
    errors = [line for line in lines if 'error' in line.lower()]
    return (errors + lines + [f'exit status {result.returncode}'])[0]


def _test(library: Path) -> str:
    """Run the self-test of a library; return '', or how it failed. One for another processor is not tested."""
    try:
        result = subprocess.run([sys.executable, '-m', f'{__package__}.self_test', str(library)],
                                cwd=FOLDER.parents[2], stdin=subprocess.DEVNULL, capture_output=True, text=True,
                                errors='replace', timeout=_TEST_SECONDS)
    except subprocess.TimeoutExpired:
        return f'its self-test did not end within {_TEST_SECONDS} s'
    if result.returncode in (0, _UNTESTED):
        return ''
    said = result.stderr.split('\n')[0] if result.returncode > 0 else f'it ended with status {result.returncode}'
    return f'it failed its self-test: {said}'


def main(arguments: Sequence[str] | None = None) -> int:
    """Build; return the exit status, 1 if there is no library in the end."""
    parser = argparse.ArgumentParser(prog='python -m realesrgan.engines.kernel.build',
                                     description='Compile the kernel of the winograd engine for this machine.')
    parser.add_argument('--output', type=Path, default=FOLDER, metavar='FOLDER',
                        help='where the libraries go; default: where the engine looks for them')
    parser.add_argument('--find-compiler', action='store_true',
                        help='build nothing; the exit status is 1 if a compiler is needed and there is none')
    options = parser.parse_args(arguments)
    if options.find_compiler:
        return int(bool(list_machine_variants()) and not list_compilers())
    try:
        libraries, problem = build_kernel(options.output.absolute())
    except OSError as error:
        libraries = []
        problem = f'The kernel could not be built: {error}. Until it is, pictures are upscaled by OpenVINO.'
    for library in libraries:
        print(f'Built {library.name}')
    if problem:
        print(problem, file=sys.stderr)
    return 0 if libraries else 1


if __name__ == '__main__':
    sys.exit(main())
