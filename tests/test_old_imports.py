"""Imports that people's programs hold, and what they and the command line must not bring with them."""
from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import realesrgan
from realesrgan.models import FACE_MODELS, MODELS

PROJECT = Path(__file__).parents[1]


def python(*arguments):
    return subprocess.run([sys.executable, *arguments], cwd=PROJECT, capture_output=True, text=True, check=True).stdout


OLD_PLACES = [
    'realesrgan:RealESRGANer realesrgan.upscaling.upsampler',
    'realesrgan.utils:RealESRGANer realesrgan.upscaling.upsampler',
    'realesrgan.utils:PrefetchReader realesrgan.utils',
    'realesrgan.utils:IOConsumer realesrgan.utils',
    'realesrgan.archs.srvgg_arch:SRVGGNetCompact realesrgan.archs.srvgg_arch',
    'realesrgan.archs.rrdbnet_arch:RRDBNet realesrgan.archs.rrdbnet_arch',
    'realesrgan.weights:load_model realesrgan.weights.loading',
    'realesrgan.weights:load_state_dict realesrgan.weights.reading',
    'realesrgan.weights:prefetch realesrgan.weights.sources',
    'realesrgan.weights:fingerprint realesrgan.weights.sources',
    'realesrgan.faces:FaceEnhancer realesrgan.faces',
]
# Runs programs, each in a process of its own but for what is imported before, which takes PyTorch seconds.
FORKS = """
import importlib, os, sys
for name in sys.argv[1].split():
    importlib.import_module(name)
for program in sys.argv[2:]:
    if os.fork() == 0:
        try:
            exec(program, {})
            sys.stdout.flush()
        finally:
            os._exit(0)
    os.wait()
"""
pytestmark = pytest.mark.skipif(not hasattr(os, 'fork'), reason='this system does not fork')


def test_names_are_found_in_their_old_places_and_basicsr_and_gfpgan_after_ours():
    """Today's torchvision lacks a module that those two ask for."""
    programs = [f'from {name.replace(":", " import ")} as found\nprint({name!r}, found.__module__)'
                for name in (place.split()[0] for place in OLD_PLACES)]
    printed = python('-c', FORKS, 'torch', *programs,
                     'import realesrgan\n'  # what 0.3.0 imports with the package is found in it
                     'print(realesrgan.utils.RealESRGANer is realesrgan.RealESRGANer)\n'
                     'print(realesrgan.archs.srvgg_arch.SRVGGNetCompact.__name__)',
                     'import sys, realesrgan\n'
                     'print("torchvision.transforms.functional_tensor" in sys.modules)\n'
                     'from basicsr.archs.rrdbnet_arch import RRDBNet\n'
                     'import gfpgan, numpy as np, torch\n'
                     'from basicsr.data.degradations import rgb_to_grayscale\n'
                     'from torchvision.transforms import functional, functional_tensor\n'
                     'print(rgb_to_grayscale is functional.rgb_to_grayscale is functional_tensor.rgb_to_grayscale)\n'
                     'upsampler = realesrgan.RealESRGANer(4, None, model=RRDBNet(3, 3, 4, 8, 1, 4), device="cpu")\n'
                     'print(gfpgan.GFPGANer.__name__, upsampler.enhance(np.zeros((8, 8, 3), np.uint8))[0].shape)\n'
                     'try: from torchvision.transforms.functional_tensor import nothing\n'
                     'except ImportError as error: print(str(error)[:53])').splitlines()
    assert printed[:len(OLD_PLACES)] == OLD_PLACES
    assert printed[len(OLD_PLACES):] == [
        'True', 'SRVGGNetCompact', 'False', 'True', 'GFPGANer (32, 32, 3)',
        "cannot import name 'nothing' from 'torchvision.transf"]


WITHOUT_PYTORCH = {
    'from realesrgan.models import MODELS; print(MODELS["realesr-animevideov3"].network.scale)': '4',
    'from realesrgan import __version__; print(__version__)': realesrgan.__version__,
    **{f'import {module} as package\ntry: package.nothing\nexcept AttributeError as error: print(error)':
       f"module {module!r} has no attribute 'nothing'"
       for module in ('realesrgan', 'realesrgan.archs', 'realesrgan.weights')},
    **{f'import sys, {module}; print([name for name in ("torch", "numpy", "cv2") if name in sys.modules])': '[]'
       for module in ('realesrgan', 'realesrgan.cli', 'realesrgan.models', 'realesrgan.engines.engine',
                      'realesrgan.archs.registry', 'realesrgan.weights', 'realesrgan.weights.sources',
                      'realesrgan.errors')}}


def test_what_a_program_that_imports_them_prints():
    assert python('-c', FORKS, '', *WITHOUT_PYTORCH).splitlines() == list(WITHOUT_PYTORCH.values())


def test_the_command_for_weights_lists_the_models():
    output = python('-m', 'realesrgan.weights')
    assert [name for name in (*MODELS, *FACE_MODELS) if name not in output] == []
