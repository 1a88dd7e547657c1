"""Networks of other architectures, and of the user's own, by both scripts."""
from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import clips
import cv2
import numpy as np
import pytest
import torch

import inference_realesrgan
import inference_realesrgan_video
from realesrgan.archs.rrdbnet import RRDBNetConfig

PROJECT = Path(__file__).parent.parent
sys.path.append(str(PROJECT / 'tests' / 'archs'))
from foreign_networks import NETWORKS, OTHERS, state_dict_of  # noqa: E402

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
def test_both_scripts_take_it(run_script, tmp_path, inputs, name):
    save(tmp_path / 'net.pth', {'params': state_dict_of(NETWORKS[name])})
    scale = SCALES[name]
    status, _, err = run_script(inference_realesrgan, '-i', 'a.png', '--model_path', 'net.pth', '-t', '32')
    assert status == 0, err
    assert cv2.imread(str(tmp_path / 'results' / 'a_out.png')).shape == (37 * scale, 53 * scale, 3)
    if name != 'Compact-x8':
        assert f'network: {name.replace("-", " ")}, by spandrel' in err
    assert 'Warning' not in err
    status, _, err = run_script(inference_realesrgan_video, '-i', 'a.mkv', '--model_path', 'net.pth')
    assert status == 0, err
    assert err.count('network: ') == (name != 'Compact-x8')
    frames = clips.frames(tmp_path / 'results' / 'a_out.mp4')
    assert frames.shape == (3, 22 * scale, 34 * scale, 3)
    assert frames.std() > 0.5


class Code:
    """What a pickle would run."""

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


# ---- architectures of the user's own ----

def read_example():
    """The example in the documents."""
    return re.search(r'```python\n(# my_arch\.py.*?)```', (PROJECT / 'docs' / 'architecture.md').read_text(), re.S)[1]


@pytest.fixture
def own(tmp_path):
    (tmp_path / 'my_arch.py').write_text(read_example())
    names = {}
    exec(compile(read_example(), 'my_arch.py', 'exec'), names)
    torch.manual_seed(0)
    network = names['Tiny'](2, 8)
    save(tmp_path / 'my.pth', {'params': network.state_dict()})
    return network


def largest_difference(folder, network):
    """Return by how many levels the result for a.png differs from what a network gives."""
    pixels = torch.from_numpy(cv2.imread(str(folder / 'a.png'))[..., ::-1].transpose(2, 0, 1).copy())[None] / 255
    expected = (network(pixels)[0].clamp(0, 1) * 255).round().detach().numpy().transpose(1, 2, 0)[..., ::-1]
    return np.abs(cv2.imread(str(folder / 'results' / 'a_out.png')) - expected).max()


def test_the_example_in_the_documents(run_script, tmp_path, inputs, own):
    for more in ([], ['-t', '20']):
        status, _, err = run_script(inference_realesrgan, '-i', 'a.png', '--model_path', 'my.pth', '--arch_module',
                                    'my_arch.py', *more)
        assert status == 0, err
        # bfloat16, where the processor has it, and a seam
        assert largest_difference(tmp_path, own) <= 2
    status, _, err = run_script(inference_realesrgan_video, '-i', 'a.mkv', '--model_path', 'my.pth', '--arch_module',
                                'my_arch.py', '--num_process_per_gpu', '2')
    assert status == 0, err
    assert clips.frames(tmp_path / 'results' / 'a_out.mp4').shape == (3, 44, 68, 3)


@pytest.mark.parametrize(('content', 'message'), [
    (None, r'my\.py: No such file or directory'),
    ('x = 1', r'my\.py: defines no subclass of realesrgan\.archs\.architecture\.NetworkConfig'),
    ('\nthis is no Python', r'my\.py, line 2: SyntaxError: .*'),
    ('import sys\nsys.exit(3)', r'my\.py, line 2: SystemExit: 3'),
    ('raise BaseException(3)', r'my\.py, line 1: BaseException: 3'),
    ('import os\nos.nothing()', r"my\.py, line 2: AttributeError: module 'os' has no attribute 'nothing'"),
    ('from realesrgan.archs.architecture import NetworkConfig\nclass Half(NetworkConfig):\n    architecture = "Half"',
     r'my\.py: Half lacks one of architecture, first_parameter, from_shapes and build')])
def test_a_file_that_can_not_be_used_is_one_line(run_script, tmp_path, inputs, content, message):
    if content is not None:
        (tmp_path / 'my.py').write_text(content)
    status, _, err = run_script(inference_realesrgan, '-i', 'a.png', '--arch_module', 'my.py')
    assert status == 1
    assert re.fullmatch(f'error: {message}', err.strip())


def test_parts_are_of_the_content_of_the_file_and_not_of_its_path(run_script, tmp_path, inputs, own):
    def upscale(*options):
        status, _, err = run_script(inference_realesrgan_video, '-i', 'a.mkv', '--model_path', 'my.pth', '--keep_parts',
                                    '--chunk', '0.05', *options)
        return status, err
    assert upscale('--arch_module', 'my_arch.py')[0] == 0
    (tmp_path / 'results' / 'a_out.mp4').unlink()
    (tmp_path / 'elsewhere.py').write_bytes((tmp_path / 'my_arch.py').read_bytes())
    status, err = upscale('--arch_module', 'elsewhere.py')
    assert status == 0
    assert 'reusing 2 parts of an earlier run' in err
    (tmp_path / 'elsewhere.py').write_text(read_example() + '\n# changed\n')
    status, err = upscale('--arch_module', 'elsewhere.py')
    assert status == 1
    assert re.search('arch_module was .*, is ', err)


@pytest.mark.parametrize(('old', 'new', 'message'), [
    ("num_feat = shapes['head.weight'][0]", 'num_feat = shapes.head',
     ", line LINE: AttributeError: 'dict' object has no attribute 'head'"),
    ("num_feat = shapes['head.weight'][0]", 'raise SystemExit', ', line LINE: SystemExit: SystemExit'),
    ("num_feat = shapes['head.weight'][0]", 'return None',
     ': TypeError: TinyConfig.from_shapes returned None, no NetworkConfig'),
    ("architecture = 'Tiny'", "architecture = 'Tiny'\n    multiple = 8.0",
     ': ValueError: TinyConfig.multiple is 8.0; it must be a whole number, 1 or more'),
    ("architecture = 'Tiny'", "architecture = 'Tiny'\n    multiple = 0",
     ': ValueError: TinyConfig.multiple is 0; it must be a whole number, 1 or more'),
    ("architecture = 'Tiny'", "architecture = 'Tiny'\n    runs_in = lambda self, precision: 1 / 0",
     ', line NEXT: ZeroDivisionError: division by zero'),
    ('return Tiny(self.scale, self.num_feat)', 'exit()', ', line LINE: SystemExit: None'),
    ('return Tiny(self.scale, self.num_feat)', 'return 1',
     ': TypeError: TinyConfig.build returned 1, no torch.nn.Module')])
def test_a_failure_on_the_weights_names_the_line(run_script, tmp_path, inputs, own, old, new, message):
    failing = read_example().replace(old, new)
    (tmp_path / 'my_arch.py').write_text(failing)
    line = failing[:failing.index(new)].count('\n') + 1
    status, _, err = run_script(inference_realesrgan, '-i', 'a.png', '--model_path', 'my.pth', '--arch_module',
                                'my_arch.py')
    assert status == 1
    assert err == f'error: my_arch.py{message.replace("LINE", str(line)).replace("NEXT", str(line + 1))}\n'


@pytest.mark.parametrize(('new', 'message'), [
    ('raise SystemExit(0)', ', line LINE: SystemExit: 0'),
    ("raise KeyError('tail')", ", line LINE: KeyError: 'tail'"),
    ('return x', r': ValueError: for 53x37 pixels the network gave torch.Size([1, 3, 37, 53]), not (1, 3, 74, 106)'),
    ('return [x]', ': ValueError: for 53x37 pixels the network gave <class \'list\'>, not (1, 3, 74, 106)')])
def test_a_failure_on_a_picture_names_both_and_the_others_are_done(run_script, tmp_path, inputs, own, new, message):
    """It fails on the picture and on the clip, by their heights."""
    old = 'return self.shuffle('
    failing = read_example().replace(old, f'if x.shape[2] in (37, 22): {new}\n        {old}')
    (tmp_path / 'my_arch.py').write_text(failing)
    line = failing[:failing.index(new)].count('\n') + 1
    cv2.imwrite(str(tmp_path / 'b.png'), np.zeros((20, 20, 3), np.uint8))
    status, _, err = run_script(inference_realesrgan, '-i', 'a.png', 'b.png', '--model_path', 'my.pth',
                                '--arch_module', 'my_arch.py', '--fp32')
    assert status == 1
    (error,) = (error for error in err.splitlines() if error.startswith('error: '))
    assert error.startswith(f'error: a.png: my_arch.py{message.replace("LINE", str(line))}')
    assert (tmp_path / 'results' / 'b_out.png').exists()
    status, _, err = run_script(inference_realesrgan_video, '-i', 'a.mkv', '--model_path', 'my.pth', '--arch_module',
                                'my_arch.py', '--fp32')
    assert status == 1
    (error,) = (error for error in err.splitlines() if error.startswith('error: '))
    assert f'my_arch.py{message.replace("LINE", str(line))[:15]}' in error


def test_what_the_class_says_is_not_measured(run_script, tmp_path, inputs, own):
    (tmp_path / 'my_arch.py').write_text(read_example().replace(
        "architecture = 'Tiny'", "architecture = 'Tiny'\n    receptive_field = 2\n    values_per_pixel = 900.5"))
    for more in ([], ['--fp32']):
        status, _, err = run_script(inference_realesrgan, '-i', 'a.png', '--model_path', 'my.pth', '--arch_module',
                                    'my_arch.py', *more)
        assert status == 0, err


def test_weights_of_a_built_in_architecture_that_do_not_fit_say_so_beside_one_s_own(run_script, tmp_path, inputs, own):
    state_dict = RRDBNetConfig(4, 8, 1, 4).build().state_dict()
    del state_dict['conv_hr.bias']
    save(tmp_path / 'cut.pth', {'params': state_dict})
    save(tmp_path / 'none.pth', {'nothing.weight': torch.zeros(1)})
    for name, reason in (('cut.pth', 'it does not fit RRDBNet .*missing: conv_hr.bias'),
                         ('none.pth', r'it is none of Tiny \(head.weight\), RRDBNet ')):
        status, _, err = run_script(inference_realesrgan, '-i', 'a.png', '--model_path', name, '--arch_module',
                                    'my_arch.py')
        assert status == 1
        assert re.search(f'^error: {name}: {reason}', err)


def test_what_the_file_prints_does_not_get_into_a_picture_on_stdout(tmp_path, inputs, own):
    talking = read_example().replace('return self.shuffle(', 'print("computing")\n        return self.shuffle(')
    (tmp_path / 'my_arch.py').write_text(f'{talking}print("hello")\n')
    result = subprocess.run(
        [sys.executable, PROJECT / 'inference_realesrgan.py', '-i', 'a.png', '-o', '-', '--ext', 'png', '--model_path',
         'my.pth', '--arch_module', 'my_arch.py'], cwd=tmp_path, capture_output=True, check=True)
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

class UnusualShape(TinyConfig):
    architecture = 'Unusual'
    first_parameter = 'order'

    def build(self):
        return Unusual(self.scale, self.num_feat)
"""


def test_whatever_a_module_holds_beside_weights_in_float32(run_script, tmp_path, inputs, own):
    """Buffers of integers, buffers that are not saved, tensors that are no buffers, views of pixels in usual order."""
    (tmp_path / 'my_arch.py').write_text(read_example() + UNUSUAL)
    names = {}
    exec(compile(read_example() + UNUSUAL, 'my_arch.py', 'exec'), names)
    network = names['Unusual'](2, 8)
    network.load_state_dict(own.state_dict(), strict=False)
    torch.save(network.state_dict(), tmp_path / 'my.pth')
    status, _, err = run_script(inference_realesrgan, '-i', 'a.png', '--model_path', 'my.pth', '--arch_module',
                                'my_arch.py', '--fp32')
    assert status == 0, err
    assert largest_difference(tmp_path, own) <= 1
