"""Odd names, locales, environments and folders."""
from __future__ import annotations

import itertools
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
import tracemalloc
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

import inference_realesrgan
import inference_realesrgan_video
from realesrgan.log import escape
from realesrgan.pictures.inputs import InputFile, find_pictures
from tests.support import clips

PROJECT = Path(__file__).parents[2]
FAST = '-n', 'realesr-animevideov3', '-s', '1'
#: How names are shown.
HOSTILE = {
    'a\x1b[31mred\x07.png': r'a\x1b[31mred\x07.png', 'a\nerror: b.png': r'a\nerror: b.png',
    'a\u202egnp.png': r'a\u202egnp.png', 'a\x9b31m.png': r'a\x9b31m.png',
    os.fsdecode(b'a\xff\xfe.png'): r'a\udcff\udcfe.png', '\ud55c\uad6d\uc5b4.png': '\ud55c\uad6d\uc5b4.png'}


def picture(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(cv2.imencode('.png', np.full((8, 10, 3), 99, np.uint8))[1].tobytes())


# ---- names ----

@pytest.mark.parametrize(('name', 'shown'), HOSTILE.items(), ids=ascii)
def test_a_name_is_shown_so_that_no_terminal_obeys_it(run_script, tmp_path, name, shown):
    picture(tmp_path / 'in' / name)
    (tmp_path / 'in' / f'broken {name}').write_bytes(b'\x89PNG\r\n\x1a\nbroken')
    status, out, err = run_script(inference_realesrgan, '-i', 'in', *FAST)
    assert status == 1
    assert f'in/{shown} -> results/' in err
    assert f'error: in/broken {shown}: ' in err
    assert clips.files(tmp_path / 'results') == [f'{Path(name).stem}_out.png']
    assert all(character.isprintable() for character in (out + err).replace('\n', '').replace('\r', ''))


def test_a_video_may_have_any_name(succeed, tmp_path):
    name = os.fsdecode(b"it's \x1b[31m [a] %d\n\xff.mp4")
    clips.make(tmp_path / 'a.mp4', *clips.picture('32x16', seconds='0.25'), *clips.sound('0.25'), *clips.EXACT)
    (tmp_path / 'a.mp4').rename(tmp_path / name)
    for more in ([], ['--extract_frame_first', '--suffix', 'too', '--num_process_per_gpu', '2']):
        assert '\x1b' not in succeed(inference_realesrgan_video, '-i', name, *FAST, *more)
    assert clips.files(tmp_path / 'results') == sorted([f'{name[:-4]}_out.mp4', f'{name[:-4]}_too.mp4'])


def test_escape_leaves_other_letters_and_signs():
    text = "Gr\u00fc\u00dfe, \ud55c\uad6d\uc5b4 \U0001f469\u200d\U0001f680\t\u3000(1) 'a' \\n"
    assert escape(text) == text


@pytest.mark.parametrize('length', [255, 251, 250])
def test_names_at_the_limit_of_length(run_script, tmp_path, length):
    """NAME_out.png has four letters more."""
    name = 'n' * (length - 4) + '.png'
    picture(tmp_path / 'in' / name)
    status, _, err = run_script(inference_realesrgan, '-i', 'in', *FAST)
    assert (status == 0) == (length <= 251)
    assert (tmp_path / 'results').exists() == (length <= 251)
    if status:
        assert err.splitlines()[-1].endswith(': the name of its result would have more than 255 bytes; use a shorter '
                                             '--suffix')


# ---- environments ----

def run(tmp_path, *, environment=(), without=(), **streams):
    """Run the script in a process; whatever surrounds it, the picture is done."""
    picture(tmp_path / 'in/\ud55c.png')
    shutil.rmtree(tmp_path / 'results', ignore_errors=True)
    variables = {name: value for name, value in os.environ.items() if name not in without}
    command = [sys.executable, PROJECT / 'inference_realesrgan.py', '-i', 'in', *FAST]
    result = subprocess.run(command, cwd=tmp_path, env=variables | dict(environment),
                            **{'stdout': subprocess.PIPE, 'stderr': subprocess.PIPE} | streams)
    assert b'Traceback' not in (result.stderr or b'')
    assert clips.files(tmp_path / 'results') == ['\ud55c_out.png'], result.stderr
    return result


@pytest.mark.parametrize(('environment', 'without'), [
    ({'LANG': 'C', 'LC_ALL': 'C', 'TERM': 'dumb', 'COLUMNS': '1', 'HOME': '/nonexistent'}, ()),
    ({'LANG': 'C', 'LC_ALL': 'C', 'PYTHONUTF8': '0', 'PYTHONCOERCECLOCALE': '0', 'TMPDIR': '/nonexistent'}, ()),
    ({'PYTHONIOENCODING': 'ascii', 'PYTHONWARNINGS': 'error'}, ()),
    ({}, ('HOME', 'LANG', 'LC_ALL', 'USER', 'TERM', 'XDG_CACHE_HOME'))], ids=['C', 'no UTF-8', 'ASCII', 'little'])
def test_any_environment(tmp_path, environment, without):
    result = run(tmp_path, environment=environment, without=without)
    assert result.returncode == 0, result.stderr


def test_streams_that_are_full_or_closed(tmp_path):
    with Path('/dev/full').open('wb') as full:
        result = run(tmp_path, stdout=full)
        assert (result.returncode, result.stderr.splitlines()[-1]) == (
            1, b"error: stdout can't be written: No space left on device")
        assert run(tmp_path, stderr=full).returncode == 0
    assert run(tmp_path, stdout=None, preexec_fn=lambda: os.close(1)).returncode == 0


# ---- folders ----

def test_thousands_of_files_take_no_memory_worth_speaking_of(tmp_path):
    picture(tmp_path / '0.png')
    for index in range(1, 2000):
        os.link(tmp_path / '0.png', tmp_path / f'{index}.png')
    tracemalloc.start()
    found = find_pictures([str(tmp_path)])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert [file.path.stem for file in found] == [str(index) for index in range(2000)]
    assert peak < 8 << 20


@pytest.fixture
def meanwhile(tmp_path, monkeypatch):
    """Two pictures; let something happen before a picture is read, by its name."""
    def arrange(change):
        def read(file, *more, real=InputFile.read):
            change(file.path.name)
            return real(file, *more)
        monkeypatch.setattr(InputFile, 'read', read)
    for name in ('a.png', 'b.png'):
        picture(tmp_path / 'in' / name)
    return arrange


def test_a_file_that_vanishes_fails_alone(run_script, tmp_path, meanwhile):
    meanwhile(lambda name: (tmp_path / 'in/a.png').unlink(missing_ok=True))
    status, _, err = run_script(inference_realesrgan, '-i', 'in', *FAST)
    assert (status, 'error: in/a.png: No such file or directory\n' in err) == (1, True)
    assert clips.files(tmp_path / 'results') == ['b_out.png']


def test_a_picture_that_is_replaced_meanwhile_is_read_as_one_or_the_other(succeed, tmp_path, meanwhile):
    cv2.imwrite(str(tmp_path / 'new.png'), np.full((20, 30, 3), 50, np.uint8))
    meanwhile(lambda name: name == 'b.png' and (tmp_path / 'new.png').replace(tmp_path / 'in/b.png'))
    succeed(inference_realesrgan, '-i', 'in', *FAST)
    assert [cv2.imread(str(tmp_path / f'results/{name}_out.png')).shape for name in 'ab'] == [(8, 10, 3), (20, 30, 3)]


@pytest.mark.skipif(not hasattr(os, 'mkfifo'), reason='this system has no pipes in its files')
def test_a_pipe_that_stalls_is_waited_for(succeed, tmp_path):
    picture(tmp_path / 'whole.png')
    data = (tmp_path / 'whole.png').read_bytes()
    os.mkfifo(tmp_path / 'a.png')

    def write_slowly():
        with (tmp_path / 'a.png').open('wb', buffering=0) as pipe:
            for start in range(0, len(data), 20):
                pipe.write(data[start:start + 20])
                time.sleep(0.1)
    writer = threading.Thread(target=write_slowly)
    writer.start()
    succeed(inference_realesrgan, '-i', 'a.png', 'whole.png', *FAST)
    writer.join()
    assert (tmp_path / 'results/a_out.png').read_bytes() == (tmp_path / 'results/whole_out.png').read_bytes()


def test_a_clock_that_jumps_changes_nothing(succeed, tmp_path, monkeypatch):
    picture(tmp_path / 'a.png')
    clips.make(tmp_path / 'a.mp4', *clips.picture('32x16', seconds='0.5'), *clips.EXACT)
    now = time.time
    jumps = itertools.cycle((0, -86400 * 400, 86400 * 400, -2 * now()))
    for folder, clock in ('steady', now), ('jumping', lambda: now() + next(jumps)):
        monkeypatch.setattr(time, 'time', clock)
        succeed(inference_realesrgan, '-i', 'a.png', '-o', folder, *FAST)
        succeed(inference_realesrgan_video, '-i', 'a.mp4', '-o', folder, *FAST)
    for name in ('a_out.png', 'a_out.mp4'):
        assert (tmp_path / 'jumping' / name).read_bytes() == (tmp_path / 'steady' / name).read_bytes()


@pytest.mark.skipif(os.geteuid() == 0, reason='root may write anywhere')
@pytest.mark.parametrize('script', [inference_realesrgan, inference_realesrgan_video])
def test_a_folder_that_can_not_be_written_to(run_script, tmp_path, script):
    picture(tmp_path / 'in/a.png')
    (tmp_path / 'results').mkdir(mode=0o555)
    status, _, err = run_script(script, '-i', 'in', *FAST)
    assert (status, err.splitlines()[-1]) == (2, 'error: results: Permission denied; choose another folder with -o')


@pytest.mark.parametrize('script', [inference_realesrgan, inference_realesrgan_video])
def test_a_results_folder_that_is_none_is_a_usage_error_whatever_the_reason(run_script, tmp_path, monkeypatch, script):
    picture(tmp_path / 'a.png')
    for output, reason in ('a.png/x', 'a.png: Not a directory'), ('a.png', 'a.png: Not a directory'):
        assert run_script(script, '-i', 'a.png', '-o', output)[::2] == (
            2, f'error: {reason}; choose another folder with -o\n')
    assert run_script(script, '-i', 'a.png', '-o', 'x.png')[0] == 2
    monkeypatch.setattr(os, 'access', lambda *_: False)
    monkeypatch.setattr(os, 'statvfs', lambda _: SimpleNamespace(f_flag=os.ST_RDONLY), raising=False)
    assert run_script(script, '-i', 'a.png')[::2] == (
        2, 'error: .: Read-only file system; choose another folder with -o\n')


@pytest.mark.skipif(not hasattr(os, 'mkfifo'), reason='this system has no pipes in its files')
@pytest.mark.parametrize(('number', 'status'), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_file_that_never_comes_does_not_hold_up_the_end(tmp_path, start_program, number, status):
    os.mkfifo(tmp_path / 'a.png')
    program = start_program([sys.executable, PROJECT / 'inference_realesrgan.py', *FAST, '-i', 'a.png'],
                            cwd=tmp_path, stderr=subprocess.PIPE, text=True)
    for line in program.stderr:
        if line.startswith('engine: '):  # it waits for the picture now
            break
    program.send_signal(number)
    assert program.wait(30) == status
    assert not (tmp_path / 'results').exists() or clips.files(tmp_path / 'results') == []
