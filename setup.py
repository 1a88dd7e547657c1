"""Packaging: the version comes from realesrgan/version.py, the requirements from requirements.txt."""
from pathlib import Path

from setuptools import find_packages, setup

root = Path(__file__).parent
version: dict[str, str] = {}
exec((root / 'realesrgan' / 'version.py').read_text(), version)
requirements = [line for line in (root / 'requirements.txt').read_text().splitlines() if line and line[0] != '#']

setup(
    name='realesrgan',
    version=version['__version__'],
    description='Upscale images and videos with Real-ESRGAN, on any machine',
    license='BSD-3-Clause',
    python_requires='>=3.11',
    packages=find_packages(include=['realesrgan', 'realesrgan.*']),
    py_modules=['inference_realesrgan', 'inference_realesrgan_video'],
    install_requires=requirements,
    entry_points={'console_scripts': ['inference_realesrgan = inference_realesrgan:main',
                                      'inference_realesrgan_video = inference_realesrgan_video:main']},
)
