"""What both scripts say of themselves: --help and completion."""
from __future__ import annotations

import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import inference_realesrgan
import inference_realesrgan_video
from realesrgan.models import MODELS

PROJECT = Path(__file__).parents[1]
SCRIPTS = inference_realesrgan, inference_realesrgan_video


@pytest.mark.parametrize('script', SCRIPTS)
def test_every_group_of_help_begins_with_a_command_that_is_valid(script, monkeypatch):
    monkeypatch.setattr(sys, 'argv', [f'{script.__name__}.py'])
    parser = script.build_parser()
    groups = [group for group in parser._action_groups if group._group_actions and group.title != 'options']
    assert len(groups) >= 8
    for text in (parser.description, *(group.description for group in groups)):
        start, *arguments = shlex.split(text.split('\n')[-1])
        assert (start, arguments[0]) == ('python', f'{script.__name__}.py')
        parser.parse_args(arguments[1:])
    for group in groups:  # the example shows an option of its group
        shown = set(shlex.split(group.description))
        assert any(shown & set(action.option_strings) for action in group._group_actions), group.title
    loose = {action.option_strings[-1] for action in parser._actions} - {
        action.option_strings[-1] for group in groups for action in group._group_actions}
    assert loose == {'--help', '--version', '--print_completion'}


def test_an_installed_command_is_called_by_its_name(monkeypatch):
    monkeypatch.setattr(sys, 'argv', ['/usr/bin/inference_realesrgan'])
    assert '  inference_realesrgan -n RealESRGAN_x4plus' in inference_realesrgan.build_parser().format_help()


# What 0.3.0 knew in each script, by our parser's names.
OLD_OPTIONS = {
    inference_realesrgan: (
        'input', 'model_name', 'output', 'denoise_strength', 'outscale', 'model_path', 'suffix', 'tile', 'tile_pad',
        'pre_pad', 'face_enhance', 'fp32', 'alpha_upsampler', 'ext', 'gpu-id'),
    inference_realesrgan_video: (
        'input', 'model_name', 'output', 'denoise_strength', 'outscale', 'suffix', 'tile', 'tile_pad', 'pre_pad',
        'face_enhance', 'fp32', 'fps', 'ffmpeg_bin', 'extract_frame_first', 'num_process_per_gpu', 'alpha_upsampler',
        'ext')}
VALUES = {'model_name': 'realesr-animevideov3', 'denoise_strength': '0.25', 'alpha_upsampler': 'bicubic', 'ext': 'auto',
          'face_enhance': None, 'fp32': None, 'extract_frame_first': None}


@pytest.mark.parametrize('script', SCRIPTS)
def test_what_abbreviated_an_option_of_0_3_0_still_does(script):
    parser, old, count = script.build_parser(), OLD_OPTIONS[script], 0
    for name in old:
        value = [] if name in VALUES and VALUES[name] is None else [VALUES.get(name, '7')]
        whole = parser.parse_args([f'--{name}', *value])
        for length in range(1, len(name)):
            if sum(other.startswith(name[:length]) for other in old) == 1:
                assert parser.parse_args([f'--{name[:length]}', *value]) == whole
                count += 1
    assert count > 70


@pytest.mark.parametrize('script', SCRIPTS)
def test_what_abbreviates_two_options_is_told(script, capsys):
    with pytest.raises(SystemExit, match='2'):
        script.main(['--out', '2'])
    assert 'ambiguous option: --out could match --output, --outscale' in capsys.readouterr().err
    assert script.build_parser().parse_args(['--outscal', '2', '--skip']).outscale == 2


def complete(script, *words):
    """What bash offers for the last of some words."""
    completion = subprocess.run([sys.executable, PROJECT / f'{script.__name__}.py', '--print_completion', 'bash'],
                                check=True, capture_output=True, text=True).stdout
    words = [f'{script.__name__}.py', *words]
    program = completion + f'''
COMP_WORDS=({shlex.join(words)}); COMP_CWORD={len(words) - 1}
$(complete -p {words[0]} | sed -n 's/.*-F \\([^ ]*\\).*/\\1/p')
printf '%s\\n' "${{COMPREPLY[@]}}"
'''
    return subprocess.run(['bash', '-c', program], check=True, capture_output=True, text=True,
                          cwd=PROJECT).stdout.split()


@pytest.mark.skipif(shutil.which('bash') is None, reason='there is no bash')
@pytest.mark.parametrize('script', SCRIPTS)
def test_bash_completes_options_and_values(script):
    assert complete(script, '--eng') == ['--engine']
    assert complete(script, '-n', '') == list(MODELS)
    assert complete(script, '--alpha_upsampler', 'b') == ['bicubic']
    assert complete(script, '-i', 'inputs/as') == ['inputs/astronaut.jpg']


@pytest.mark.parametrize('shell', ['zsh', 'fish'])
@pytest.mark.parametrize('script', SCRIPTS)
def test_other_shells_take_their_completion(run_script, script, shell):
    status, completion, _ = run_script(script, '--print_completion', shell)
    assert status == 0
    assert '--face_enhance' in completion or '-l face_enhance' in completion
    if shutil.which(shell):
        assert subprocess.run([shell, '-n'], input=completion, text=True, capture_output=True).returncode == 0


def test_completion_without_its_library_is_one_line(run_script, monkeypatch):
    monkeypatch.setitem(sys.modules, 'shtab', None)
    status, _, err = run_script(inference_realesrgan, '--print_completion', 'bash')
    assert status == 2
    assert err.splitlines()[-1].endswith('error: --print_completion needs shtab: pip install shtab')


def test_a_bug_outside_all_inputs_is_one_line(run_script, monkeypatch):
    def fail(*_, **__):
        raise KeyError('x')
    monkeypatch.setattr('realesrgan.pictures.upscale_pictures', fail)
    assert run_script(inference_realesrgan) == (
        1, '', 'error: KeyError: \'x\': a bug of this program; please report it with the file and what -v shows\n')
