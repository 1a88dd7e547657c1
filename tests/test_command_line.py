"""--help and completion of both scripts."""
from __future__ import annotations

import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import inference_realesrgan
import inference_realesrgan_video
from realesrgan.cli import parser
from realesrgan.errors import UsageError
from realesrgan.models import MODELS
from realesrgan.options import PictureOptions, check_number, option

PROJECT = Path(__file__).parents[1]
SCRIPTS = inference_realesrgan, inference_realesrgan_video


@pytest.mark.parametrize('script', SCRIPTS)
def test_every_group_of_help_begins_with_a_command_that_is_valid(script, monkeypatch):
    monkeypatch.setattr(sys, 'argv', [f'{script.__name__}.py'])
    built = script.build_parser()
    groups = [group for group in built._action_groups if group._group_actions and group.title != 'options']
    assert len(groups) >= 8
    for text in (built.description, *(group.description for group in groups)):
        start, *arguments = shlex.split(text.split('\n')[-1])
        assert (start, arguments[0]) == ('python', f'{script.__name__}.py')
        built.parse_args(arguments[1:])
    for group in groups:  # the example shows an option of its group
        shown = set(shlex.split(group.description))
        assert any(shown & set(action.option_strings) for action in group._group_actions), group.title
    loose = {action.option_strings[-1] for action in built._actions} - {
        action.option_strings[-1] for group in groups for action in group._group_actions}
    assert loose == {'--help', '--version', '--print_completion'}


def test_a_new_option_is_one_field_away_from_help(monkeypatch):
    """Parsers, examples and checks come from the fields alone."""
    monkeypatch.setattr(sys, 'argv', ['/usr/bin/inference_realesrgan'])
    class NewOptions(PictureOptions):
        strength: int = option(
            3, '-x', '--strength', group='result', check=check_number(int, 1, 9), metavar='1..9', help='how strong')
    new = parser.build_parser(NewOptions, 'Try.', inputs='', output='', sample='a.png', examples={
        '': '-i a.png', 'files': '-i a.png', 'result': '-i a.png -x 2'})
    text = ' '.join(new.format_help().split())
    assert '-x 1..9, --strength 1..9 how strong (default: 3)' in text
    assert ' inference_realesrgan -i a.png -x 2' in text  # an installed command is called by its name
    args = new.parse_args(['--stren', '4'])
    assert parser.read_options(NewOptions, args).strength == NewOptions(strength='4').strength == 4
    with pytest.raises(UsageError, match='^strength: 10 is out of range: allowed is 1 to 9$'):
        NewOptions(strength=10)


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
def test_what_abbreviated_an_option_of_0_3_0_still_does(script, capsys):
    built, old, count = script.build_parser(), OLD_OPTIONS[script], 0
    for name in old:
        value = [] if name in VALUES and VALUES[name] is None else [VALUES.get(name, '7')]
        whole = built.parse_args([f'--{name}', *value])
        for length in range(1, len(name)):
            if sum(other.startswith(name[:length]) for other in old) == 1:
                assert built.parse_args([f'--{name[:length]}', *value]) == whole
                count += 1
    assert count > 70
    assert built.parse_args(['--outscal', '2', '--skip']).outscale == 2
    with pytest.raises(SystemExit, match='2'):
        script.main(['--out', '2'])
    assert 'ambiguous option: --out could match --output, --outscale' in capsys.readouterr().err


@pytest.mark.parametrize(('arguments', 'hint'), [
    (['--tyle', '3'], '--tyle 3; did you mean --tile?'), (['--tile-pads=3'], '--tile-pads=3; did you mean --tile_pad?'),
    (['--zzzzzz'], '--zzzzzz'), (['photo.jpg'], 'photo.jpg; inputs follow -i, as in -i photo.jpg'),
    (['-s', '2', 'my photo.jpg'], "my photo.jpg; inputs follow -i, as in -i 'my photo.jpg'")])
@pytest.mark.parametrize('script', SCRIPTS)
def test_an_unknown_argument_is_told_what_may_have_been_meant(run_script, script, arguments, hint):
    status, _, err = run_script(script, *arguments)
    assert status == 2
    assert err.endswith(f'error: unrecognized arguments: {hint}\n')


@pytest.mark.parametrize(('script', 'arguments', 'hint'), [
    (inference_realesrgan, ['--fps', '30'], '--fps 30; --fps is an option of inference_realesrgan_video.py'),
    (inference_realesrgan_video, ['-r'], '-r; -r is an option of inference_realesrgan.py')])
def test_an_option_of_the_other_script_names_that_script(run_script, script, arguments, hint):
    status, _, err = run_script(script, *arguments)
    assert status == 2
    assert err.endswith(f': error: unrecognized arguments: {hint}\n')


@pytest.mark.parametrize(('script', 'arguments', 'expected', 'line'), [
    (inference_realesrgan, ['-i', '-', 'a.png'], 1, '-: stdin can\'t be read beside other inputs'),
    (inference_realesrgan_video, ['-i', '-'], 1, '-: stdin is called /dev/stdin here'),
    (inference_realesrgan_video, ['-i', 'a.mp4', '-o', '-'], 2, '-o -: a video can\'t go to stdout; name a folder'),
    (inference_realesrgan, ['-i', 'https://x/a.png'], 1,
     'https://x/a.png: is a URL; download it first, and give the file')])
def test_what_a_script_can_not_read_or_write_is_a_line(run_script, script, arguments, expected, line):
    status, out, err = run_script(script, *arguments)
    assert status == expected
    assert f'error: {line}\n' in err
    assert '/s' not in out  # no rate of nothing


@pytest.mark.parametrize('value', ['cpu', '-1'])
def test_the_cpu_is_no_gpu(run_script, value):
    status, _, err = run_script(inference_realesrgan, '-g', value)
    assert (status, f"{value!r} is not the number of a GPU; --engine winograd takes the CPU" in err) == (2, True)


def complete(script, *words):
    """Return bash's completions of the last of some words."""
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
def test_shells_complete_options_and_values(run_script, monkeypatch, script):
    assert complete(script, '--eng') == ['--engine']
    assert complete(script, '-n', '') == list(MODELS)
    assert complete(script, '--alpha_upsampler', 'b') == ['bicubic']
    assert complete(script, '-i', 'inputs/as') == ['inputs/astronaut.jpg']
    for shell in ('zsh', 'fish'):
        status, completion, _ = run_script(script, '--print_completion', shell)
        assert (status, '--face_enhance' in completion or '-l face_enhance' in completion) == (0, True)
        if shutil.which(shell):
            assert subprocess.run([shell, '-n'], input=completion, text=True, capture_output=True).returncode == 0
    monkeypatch.setitem(sys.modules, 'shtab', None)
    status, _, err = run_script(script, '--print_completion', 'bash')
    assert status == 2
    assert err.splitlines()[-1].endswith('error: --print_completion needs shtab: pip install shtab')


def test_a_bug_outside_all_inputs_is_one_line(run_script, monkeypatch):
    def fail(*_, **__):
        raise KeyError('x')
    monkeypatch.setattr('realesrgan.pictures.upscale_pictures', fail)
    assert run_script(inference_realesrgan, '-i', 'photo.jpg') == (
        1, '', 'error: KeyError: \'x\': a bug of this program; please report it with the file and what -v shows\n')
