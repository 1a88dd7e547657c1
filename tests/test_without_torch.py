"""On a CPU nothing imports PyTorch, which takes longer than many pictures; what is PyTorch's is there when asked for.

Nor does anything import ncnn, spandrel or Ray. The scripts run in fresh processes, which find stand-ins for the four
that fail. So do the workers that they start.
"""
from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from realesrgan import RealESRGANer
from realesrgan.archs.srvgg import SRVGGNetCompactConfig
from realesrgan.archs.srvgg_arch import SRVGGNetCompact
from realesrgan.engines.devices import may_have_vulkan_gpus
from tests.support import clips

PROJECT = Path(__file__).parents[1]
DATA = Path(__file__).parent / 'data'

pytest.importorskip('openvino')
on_a_cpu = pytest.mark.skipif(sys.platform == 'darwin', reason='PyTorch is asked for the GPU that every Mac has')


@pytest.fixture
def python(tmp_path):
    """Run a fresh Python in a folder of its own, on a machine without a GPU whose PyTorch can't be imported."""
    folder = tmp_path / 'stand-ins'
    # ncnn is asked about a GPU that this machine may have.
    for name in ('torch', 'spandrel', 'ray', *([] if may_have_vulkan_gpus() else ['ncnn'])):
        (folder / name).mkdir(parents=True)
        (folder / name / '__init__.py').write_text(
            'import pathlib\npathlib.Path(__file__).with_name("imported").touch()\nraise AssertionError(__name__)\n')
    (folder / 'torch' / 'version.py').write_text('cuda = hip = xpu = None\n')
    environment = os.environ | {'PYTHONPATH': os.pathsep.join((str(folder), str(PROJECT)))}

    def run(*arguments):
        result = subprocess.run([sys.executable, *map(str, arguments)], cwd=tmp_path, env=environment,
                                capture_output=True, text=True)
        assert result.returncode == 0, result.stderr
        assert list(folder.glob('*/imported')) == []
        return result.stdout
    cv2.imwrite(str(tmp_path / 'a.png'), np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8))
    return run


@pytest.fixture
def files(tmp_path):
    """Weights of one network: a .pth and a .safetensors."""
    path = DATA / 'realesr-animevideov3.pth'
    (state_dict,) = torch.load(path, weights_only=True).values()
    save_file(state_dict, tmp_path / 'net.safetensors')
    return {'pth': path, 'safetensors': tmp_path / 'net.safetensors'}


@pytest.mark.parametrize('script', ['inference_realesrgan', 'inference_realesrgan_video'])
def test_help_is_quick_for_it_imports_nothing_large(python, script):
    output = python('-c', f'import sys, {script} as script\n'
                    'try: script.main(["--help"])\n'
                    'except SystemExit: pass\n'
                    'print([name for name in ("torch", "cv2", "numpy", "PIL", "tqdm") if name in sys.modules])')
    assert (output.splitlines()[-1], '-dn 0..1, --denoise_strength 0..1' in output) == ('[]', True)


@on_a_cpu
def test_the_image_script(python, tmp_path, files):
    code = ('import sys, inference_realesrgan as script\n'
            'statuses = [script.main(run.split(" ")) for run in sys.argv[1:]]\n'
            'print(statuses, "torch" in sys.modules)')
    by_openvino, packaged = '--engine openvino', '-n realesr-animevideov3'
    runs = {'packaged': f'{packaged} {by_openvino}', 'auto': packaged,
            **{name: f'--model_path {path} {by_openvino}' for name, path in files.items()}}
    output = python('-c', code, *(f'-i a.png -o {name} {options}' for name, options in runs.items()))
    assert output.splitlines()[-1] == '[0, 0, 0, 0] False'
    results = {name: cv2.imread(str(tmp_path / name / 'a_out.png')) for name in runs}
    assert {result.shape for result in results.values()} == {(256, 256, 3)}
    assert np.array_equal(results['pth'], results['safetensors'])
    assert np.abs(results['pth'] - results['packaged'].astype(float)).max() <= 8  # the packaged weights are rounded


@on_a_cpu
def test_a_start_imports_what_a_plain_picture_needs(python):
    """What was taken out of it took a quarter of its time."""
    code = ('import sys, inference_realesrgan as script\n'
            'script.main("-n realesr-animevideov3 -i a.png -o out".split())\n'
            'print(sorted({*sys.argv[1:]} & sys.modules.keys()))')
    unneeded = ('cv2', 'PIL', 'tifffile', 'tqdm', 'psutil', 'requests', 'numpy.random', 'json', 'subprocess',
                'tempfile', 'dataclasses', 'importlib.metadata', 'realesrgan.tuning', 'realesrgan.ffmpeg',
                'realesrgan.videos', 'realesrgan.reports', 'realesrgan.quality.measures',
                'realesrgan.pictures.metadata', 'realesrgan.engines.openvino')
    assert python('-c', code, *unneeded).splitlines()[-1] == '[]'


@pytest.mark.skipif(sys.platform != 'linux', reason='threads are counted as Linux lists them')
def test_numpy_starts_no_threads_that_would_wait_busily(python):
    code = ('import os\n'
            'from realesrgan.cli.run import run_and_exit\n'
            'def main():\n'
            '    import numpy\n'
            '    print(len(os.listdir("/proc/self/task")))\n'
            '    return 0\n'
            'run_and_exit(main)')
    assert python('-c', code) == '1\n'


@on_a_cpu
def test_both_denoise_weights_are_mixed(python, tmp_path):
    for name, seed in (('realesr-general-x4v3', 1), ('realesr-general-wdn-x4v3', 2)):
        torch.manual_seed(seed)
        torch.save({'params': SRVGGNetCompactConfig(4, 8, 2).build().state_dict()}, tmp_path / f'{name}.pth')
    python(PROJECT / 'inference_realesrgan.py', '-i', 'a.png', '-o', 'out', '-n', 'realesr-general-x4v3',
           '--model_path', 'realesr-general-x4v3.pth', '-dn', '0.3')
    assert (tmp_path / 'out' / 'a_out.png').exists()


@on_a_cpu
@pytest.mark.parametrize('workers', [1, 2])
def test_the_video_script_and_its_workers(python, tmp_path, workers):
    clips.make(tmp_path / 'a.mp4', *clips.picture(seconds='0.2'), *clips.EXACT)
    script = PROJECT / 'inference_realesrgan_video.py'
    python(script, '-i', 'a.mp4', '-o', 'out', '--num_process_per_gpu', workers, '--chunk', '0.1')
    assert clips.video(tmp_path / 'out' / 'a_out.mp4')['frames'] == 5
    if workers == 1:
        python(script, '-i', 'a.mp4', '-o', 'other', '--dry_run')


@on_a_cpu
def test_a_program(python, files):
    code = ('import sys, numpy as np\n'
            'from realesrgan import RealESRGANer\n'
            'upsampler = RealESRGANer(4, sys.argv[1], device="cpu")\n'
            'print(upsampler.enhance(np.zeros((8, 8, 4), np.uint16), 2)[0].shape, upsampler.device_type)')
    assert python('-c', code, files['pth']) == '(16, 16, 4) cpu\n'


def test_what_is_pytorchs_is_there_when_asked_for(files):
    upsampler = RealESRGANer(4, files['pth'], device='cpu', engine='openvino')
    assert upsampler.device == torch.device('cpu')
    assert isinstance(upsampler.model, SRVGGNetCompact)
    assert upsampler.model is upsampler.model
    (expected,) = torch.load(files['pth'], weights_only=True).values()
    assert all(torch.equal(tensor, expected[name]) for name, tensor in upsampler.model.state_dict().items())
