"""Imports that people's programs hold, and what they and the command line must not bring with them."""
from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

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
    'realesrgan.faces:FaceEnhancer realesrgan.faces.enhancer',
]
# Each in a process of its own; PyTorch, which some of them take seconds to import, is there already.
FORKS = """
import importlib, os, sys, torch
for word in sys.argv[1:]:
    if os.fork() == 0:
        try:
            module, name = word.split(':')
            print(word, getattr(importlib.import_module(module), name).__module__, flush=True)
        finally:
            os._exit(0)
    os.wait()
"""


@pytest.mark.skipif(not hasattr(os, 'fork'), reason='this system does not fork')
def test_names_are_found_in_their_old_places():
    assert python('-c', FORKS, *(line.split()[0] for line in OLD_PLACES)).splitlines() == OLD_PLACES


def test_what_0_3_0_imports_with_the_package_is_found_in_it():
    code = ('import realesrgan\n'
            'print(realesrgan.utils.RealESRGANer is realesrgan.RealESRGANer)\n'
            'print(realesrgan.archs.srvgg_arch.SRVGGNetCompact.__name__)')
    assert python('-c', code).splitlines() == ['True', 'SRVGGNetCompact']


def test_models_are_in_their_old_place():
    code = 'from realesrgan.models import MODELS; print(MODELS["realesr-animevideov3"].network.scale)'
    assert python('-c', code) == '4\n'


def test_the_version_is_that_of_the_package():
    import realesrgan
    assert python('-c', 'from realesrgan import __version__; print(__version__)').strip() == realesrgan.__version__


@pytest.mark.parametrize('module', ['realesrgan', 'realesrgan.archs', 'realesrgan.weights', 'realesrgan.faces'])
def test_another_name_is_an_attribute_error(module):
    code = f'import {module} as package\ntry: package.nothing\nexcept AttributeError as error: print(error)'
    assert python('-c', code).strip() == f"module {module!r} has no attribute 'nothing'"


def test_the_command_for_weights_lists_the_models():
    from realesrgan.models import FACE_MODELS, MODELS
    output = python('-m', 'realesrgan.weights')
    assert [name for name in (*MODELS, *FACE_MODELS) if name not in output] == []


def test_basicsr_and_gfpgan_can_be_imported_after_ours():
    """Today's torchvision lacks a module that they ask for."""
    code = ('import sys, realesrgan\n'
            'print("torchvision.transforms.functional_tensor" in sys.modules)\n'
            'from basicsr.archs.rrdbnet_arch import RRDBNet\n'
            'import gfpgan, numpy as np, torch\n'
            'from basicsr.data.degradations import rgb_to_grayscale\n'
            'from torchvision.transforms import functional, functional_tensor\n'
            'print(rgb_to_grayscale is functional.rgb_to_grayscale is functional_tensor.rgb_to_grayscale)\n'
            'upsampler = realesrgan.RealESRGANer(4, None, model=RRDBNet(3, 3, 4, 8, 1, 4), device="cpu")\n'
            'print(gfpgan.GFPGANer.__name__, upsampler.enhance(np.zeros((8, 8, 3), np.uint8))[0].shape)\n'
            'from torchvision.transforms.functional_tensor import nothing')
    result = subprocess.run([sys.executable, '-c', code], cwd=PROJECT, capture_output=True, text=True)
    assert result.stdout.splitlines() == ['False', 'True', 'GFPGANer (32, 32, 3)'], result.stderr
    assert result.stderr.splitlines()[-1].startswith("ImportError: cannot import name 'nothing' from 'torchvision.")


@pytest.mark.parametrize('module', ['realesrgan', 'realesrgan.cli', 'realesrgan.models', 'realesrgan.engines.engine',
                                    'realesrgan.archs.registry', 'realesrgan.weights', 'realesrgan.weights.sources',
                                    'realesrgan.faces', 'realesrgan.errors'])
def test_light_modules_load_neither_torch_nor_numpy(module):
    code = f'import sys, {module}; print([name for name in ("torch", "numpy", "cv2") if name in sys.modules])'
    assert python('-c', code) == '[]\n'
