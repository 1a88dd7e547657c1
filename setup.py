"""Packaging: the version comes from realesrgan/version.py, the requirements from requirements.txt.

The wheel holds the compiled kernel (realesrgan/engines/kernel) where it can be built. It then fits one kind of machine,
but any Python. Where no C compiler is installed, ziglang brings one to the isolated build environment.
"""
import sys
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build_py import build_py

root = Path(__file__).resolve().parent
sys.path.insert(0, str(root))

from realesrgan.engines.kernel.build import build_kernel, list_compilers, list_machine_variants  # noqa: E402
from realesrgan.version import __version__  # noqa: E402

requirements = [line for line in (root / 'requirements.txt').read_text().splitlines() if line and line[0] != '#']
# ziglang has no wheel for other systems; a requirement that can't be met would end the installation.
needs_ziglang = bool(list_machine_variants()) and not list_compilers() and sys.platform in ('linux', 'darwin', 'win32')


class BuildPyWithKernel(build_py):
    """Add the compiled kernel to the modules; warn where it can't be built."""

    libraries: tuple[Path, ...] = ()

    def run(self) -> None:
        super().run()
        base = root if self.editable_mode else Path(self.build_lib).absolute()
        folder = base / 'realesrgan' / 'engines' / 'kernel'
        if not self.editable_mode:
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


setup(
    name='realesrgan',
    version=__version__,
    description='Upscale images and videos with Real-ESRGAN, on any machine',
    license='BSD-3-Clause',
    python_requires='>=3.11',
    packages=find_packages(include=['realesrgan', 'realesrgan.*']),
    package_data={'realesrgan.engines.kernel': ['*.c'], 'realesrgan.reports': ['page.html.jinja'],
                  'realesrgan.web': ['static/*', 'templates/*']},
    py_modules=['inference_realesrgan', 'inference_realesrgan_video'],
    install_requires=requirements,
    extras_require={'models': ['spandrel>=0.4'], 'cluster': ['ray>=2.40'],
                    'web': ['flask>=3.1', 'waitress>=3.0', 'prometheus_client>=0.20']},
    setup_requires=['ziglang>=0.14,<0.18'] if needs_ziglang else [],
    cmdclass={'build_py': BuildPyWithKernel, 'bdist_wheel': PlatformWheel},
    entry_points={'console_scripts': ['inference_realesrgan = inference_realesrgan:command',
                                      'inference_realesrgan_video = inference_realesrgan_video:command',
                                      'realesrgan_tuning = realesrgan.tuning:main']},
)
