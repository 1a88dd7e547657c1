"""Networks of other architectures, and of other packages, by both scripts."""
from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

import inference_realesrgan
import inference_realesrgan_video
from realesrgan.archs.registry import ENTRY_POINTS
from tests.support import clips
from tests.support.foreign_networks import NETWORKS, OTHERS, state_dict_of

PROJECT = Path(__file__).parent.parent

SCALES = {'SwinIR-x3': 3, 'OmniSR-x2': 2, 'SCUNet-x1': 1, 'Compact-x8': 8, 'ESRGAN-x1': 1}


def save(path, content):
    torch.save(content, path)
    return path


@pytest.fixture
def inputs(tmp_path):
    """A picture of 37x53 and a clip of three frames of 34x22."""
    photo = cv2.imread(str(PROJECT / 'inputs' / 'astronaut.jpg'))
    cv2.imwrite(str(tmp_path / 'a.png'), photo[100:137, 100:153])
    clips.make(tmp_path / 'a.mkv', *clips.picture('34x22', seconds='0.125'), *clips.EXACT)


@pytest.mark.parametrize('name', SCALES)
def test_both_scripts_take_it(succeed, tmp_path, inputs, name):
    save(tmp_path / 'net.pth', {'params': state_dict_of(NETWORKS[name])})
    scale = SCALES[name]
    text = succeed(inference_realesrgan, '-i', 'a.png', '--model_path', 'net.pth', '-t', '32')
    assert cv2.imread(str(tmp_path / 'results' / 'a_out.png')).shape == (37 * scale, 53 * scale, 3)
    assert (f'network: {name.replace("-", " ")}, by spandrel' in text) == (name != 'Compact-x8')
    assert 'Warning' not in text
    text = succeed(inference_realesrgan_video, '-i', 'a.mkv', '--model_path', 'net.pth')
    assert text.count('network: ') == (name != 'Compact-x8')
    frames = clips.frames(tmp_path / 'results' / 'a_out.mp4')
    assert frames.shape == (3, 22 * scale, 34 * scale, 3)
    assert frames.std() > 0.5


class Code:
    """The code that a pickle would run."""

    def __reduce__(self):
        return print, ('code was run',)


@pytest.mark.parametrize(('content', 'message'), [
    (lambda: state_dict_of(OTHERS['gray'][0]), OTHERS['gray'][1]),
    (lambda: {'nothing.weight': torch.zeros(1)}, 'nor can spandrel [0-9.]+ load it'),
    (lambda: {'params': state_dict_of(NETWORKS['SPAN-x4']), 'more': Code()}, 'refused: .* wants to run .*print'),
], ids=['gray', 'unknown', 'code'])
@pytest.mark.parametrize('script', [inference_realesrgan, inference_realesrgan_video])
def test_what_can_not_be_used_is_one_line(run_script, tmp_path, inputs, script, content, message):
    save(tmp_path / 'net.pth', content())
    source = 'a.png' if script is inference_realesrgan else 'a.mkv'
    status, out, err = run_script(script, '-i', source, '--model_path', 'net.pth')
    assert status == 1
    (error,) = (line for line in err.splitlines() if line.startswith('error: '))
    assert re.search(f'net.pth: .*{message}', error)
    assert 'code was run' not in out + err


# ---- architectures of other packages ----

def read_example(language):
    """Return the file that the documents show in one language."""
    text = (PROJECT / 'docs' / 'architecture.md').read_text()
    return re.search(rf'```{language}\n(# (?:pyproject\.toml|my_arch\.py)\n.*?)```', text, re.S)[1]


def install(folder, code, entries):
    """Write what pip would install."""
    information = folder / 'my_arch-1.0.dist-info'
    information.mkdir(parents=True, exist_ok=True)
    (information / 'METADATA').write_text('Metadata-Version: 2.1\nName: my-arch\nVersion: 1.0\n')
    (information / 'entry_points.txt').write_text('\n'.join(
        [f'[{ENTRY_POINTS}]', *(f'{name} = {value}' for name, value in entries.items())]))
    (folder / 'my_arch.py').write_text(code)


@pytest.fixture
def package(tmp_path, monkeypatch):
    """The example, installed in a folder of this process's path and of those that it starts."""
    folder = tmp_path / 'site'
    install(folder, read_example('python'),
            tomllib.loads(read_example('toml'))['project']['entry-points'][ENTRY_POINTS])
    monkeypatch.setenv('PYTHONPATH', str(folder))
    monkeypatch.syspath_prepend(folder)
    yield folder
    sys.modules.pop('my_arch', None)


@pytest.fixture
def own(tmp_path):
    """A network of the example, whose weights are in my.pth."""
    torch.manual_seed(0)
    names = {}
    exec(compile(read_example('python'), 'my_arch.py', 'exec'), names)
    network = names['Tiny'](2, 8)
    save(tmp_path / 'my.pth', {'params': network.state_dict()})
    return network


def largest_difference(folder, network):
    """Return by how many levels the result for a.png differs from what a network gives."""
    pixels = torch.from_numpy(cv2.imread(str(folder / 'a.png'))[..., ::-1].transpose(2, 0, 1).copy())[None] / 255
    expected = (network(pixels)[0].clamp(0, 1) * 255).round().detach().numpy().transpose(1, 2, 0)[..., ::-1]
    return np.abs(cv2.imread(str(folder / 'results' / 'a_out.png')) - expected).max()


def test_the_example_in_the_documents(succeed, tmp_path, inputs, package, own):
    for more in ([], ['-t', '20']):
        assert 'Warning' not in succeed(inference_realesrgan, '-i', 'a.png', '--model_path', 'my.pth', *more)
        # bfloat16, where the processor has it, and a seam
        assert largest_difference(tmp_path, own) <= 2
    succeed(inference_realesrgan_video, '-i', 'a.mkv', '--model_path', 'my.pth', '--num_process_per_gpu', '2')
    assert clips.frames(tmp_path / 'results' / 'a_out.mp4').shape == (3, 44, 68, 3)


def test_the_class_may_say_how_far_it_sees_and_what_it_takes(succeed, tmp_path, inputs, package, own):
    (package / 'my_arch.py').write_text(read_example('python').replace(
        "architecture = 'Tiny'",
        "architecture = 'Tiny'\n    receptive_field = alignment = 2\n    values_per_pixel = 900.5"))
    for more in ([], ['--fp32']):
        succeed(inference_realesrgan, '-i', 'a.png', '--model_path', 'my.pth', *more)


def test_what_the_module_prints_does_not_get_into_a_picture_on_stdout(tmp_path, inputs, package, own):
    talking = read_example('python').replace('return self.shuffle(', 'print("computing")\n        return self.shuffle(')
    (package / 'my_arch.py').write_text(f'{talking}print("hello")\n')
    result = subprocess.run(
        [sys.executable, PROJECT / 'inference_realesrgan.py', '-i', 'a.png', '-o', '-', '--ext', 'png', '--model_path',
         'my.pth'], cwd=tmp_path, capture_output=True, check=True)
    assert b'hello' in result.stderr
    assert b'computing' in result.stderr
    assert cv2.imdecode(np.frombuffer(result.stdout, np.uint8), cv2.IMREAD_COLOR).shape == (74, 106, 3)


UNUSUAL = """
import torch

class Unusual(Tiny):
    def __init__(self, scale, num_feat):
        super().__init__(scale, num_feat)
        self.register_buffer('order', torch.arange(num_feat))
        self.register_buffer('share', torch.full((1,), 0.5), persistent=False)
        self.gain = torch.ones(1) * 2

    def forward(self, x):
        y = self.head(x).relu()[:, self.order] * self.share * self.gain
        return self.shuffle(self.tail(y.view(y.shape[0], -1).view(y.shape)))

class UnusualConfig(TinyConfig):
    architecture = 'Unusual'
    first_parameter = 'order'

    def build(self):
        return Unusual(self.scale, self.num_feat)
"""


def test_whatever_a_module_holds_beside_weights_in_float32(succeed, tmp_path, inputs, package, own):
    """Buffers of integers, buffers that are not saved, tensors that are no buffers, views of pixels in usual order."""
    install(package, read_example('python') + UNUSUAL, {'unusual': 'my_arch:UnusualConfig'})
    save(tmp_path / 'my.pth', {**own.state_dict(), 'order': torch.arange(8)})
    succeed(inference_realesrgan, '-i', 'a.png', '--model_path', 'my.pth', '--fp32')
    assert largest_difference(tmp_path, own) <= 1
