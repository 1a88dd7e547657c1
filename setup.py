"""Packaging is described in pyproject.toml; this adds the compiled kernel (realesrgan/engines/kernel) to the wheel.

The wheel then fits one kind of machine, but any Python. Where no C compiler is installed, ziglang brings one to the
isolated build environment.
"""
import sys
from pathlib import Path

from setuptools import setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build_py import build_py

root = Path(__file__).resolve().parent
sys.path.insert(0, str(root))

from realesrgan.engines.kernel.build import build_kernel, list_compilers, list_machine_variants  # noqa: E402

# ziglang has no wheel for other systems; a requirement that can't be met would end the installation.
needs_ziglang = bool(list_machine_variants()) and not list_compilers() and sys.platform in ('linux', 'darwin', 'win32')


class BuildPyWithKernel(build_py):
    """Add the compiled kernel to the modules; warn where it can't be built."""

    libraries: tuple[Path, ...] = ()

    def run(self) -> None:
        super().run()
        if self.editable_mode:  # where `make` builds it, or `python -m realesrgan.engines.kernel.build`
            return
        folder = Path(self.build_lib).absolute() / 'realesrgan' / 'engines' / 'kernel'
        for old in folder.glob('libwinograd-*'):  # of an earlier build in the same folder
            old.unlink()
        try:
            libraries, problem = build_kernel(folder)
        except OSError as error:
            self.warn(f'the kernel could not be built: {error}')
            return
        self.libraries = tuple(libraries)
        if problem:
            self.warn(problem)

    def get_outputs(self, include_bytecode: bool = True) -> list[str]:
        return [*super().get_outputs(include_bytecode), *map(str, self.libraries)]


class PlatformWheel(bdist_wheel):
    """Name the wheel after the machine if it holds the kernel, which is loaded with ctypes and needs no Python ABI."""

    def run(self) -> None:
        self.run_command('build')
        if self.get_finalized_command('build_py').libraries:
            self.distribution.has_ext_modules = lambda: True  # what is installed goes where binaries belong
            self.root_is_pure = False
        super().run()

    def get_tag(self) -> tuple[str, str, str]:
        tag = super().get_tag()
        return tag if self.root_is_pure else ('py3', 'none', tag[2])


setup(setup_requires=['ziglang>=0.14,<0.18'] if needs_ziglang else [],
      cmdclass={'build_py': BuildPyWithKernel, 'bdist_wheel': PlatformWheel})
