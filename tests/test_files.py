"""Files that are whole or not there, and what killed runs leave behind."""
from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from realesrgan import files
from realesrgan.files import find_user_folder, hash_file, read_json, remove_leftovers, temporary_folder, whole_file

PROJECT = Path(__file__).parents[1]
KILLED = """
import os, signal, sys
from pathlib import Path
from realesrgan.files import temporary_folder, whole_file
with whole_file(Path('a.png')) as file, temporary_folder(Path('b.mp4')) as folder:
    file.write_bytes(b'half')
    (folder / 'frame.png').write_bytes(b'half')
    print(file.name, folder.name, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture
def killed(tmp_path):
    """The names of what a process had in work that was killed."""
    result = subprocess.run([sys.executable, '-c', KILLED], cwd=tmp_path, stdout=subprocess.PIPE, text=True,
                            env=os.environ | {'PYTHONPATH': str(PROJECT)})
    assert result.returncode == -9
    names = result.stdout.split()
    assert sorted(names) == sorted(path.name for path in tmp_path.iterdir())
    return names


def test_what_a_killed_run_has_left_behind_is_removed(tmp_path, killed):
    (tmp_path / 'mine.png').write_bytes(b'x')
    (tmp_path / '.realesrgan-of-an-older-version.png').write_bytes(b'x')
    remove_leftovers(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ['.realesrgan-of-an-older-version.png', 'mine.png']


def test_what_other_machines_have_in_work_stays(tmp_path, killed, monkeypatch):
    monkeypatch.setattr(files, '_identify_machine', lambda: '0' * 8)
    remove_leftovers(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(killed)


def test_what_a_living_run_has_in_work_stays(tmp_path):
    with whole_file(tmp_path / 'a.png') as file, temporary_folder(tmp_path / 'b.mp4') as folder:
        file.write_bytes(b'half')
        remove_leftovers(tmp_path)
        assert file.exists()
        assert folder.is_dir()
    assert [path.name for path in tmp_path.iterdir()] == ['a.png']


def test_a_folder_that_is_not_there_has_no_leftovers(tmp_path):
    remove_leftovers(tmp_path / 'results')
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(('system', 'folders', 'variables', 'moved'), [
    ('linux', ['.config/realesrgan', '.local/share/realesrgan', '.cache/realesrgan'], 'XDG_{}_HOME',
     ['realesrgan'] * 3),
    ('darwin', ['Library/Application Support/realesrgan'] * 2 + ['Library/Caches/realesrgan'], 'XDG_{}_HOME',
     ['realesrgan'] * 3),
    ('win32', ['AppData/Local/realesrgan'] * 2 + ['AppData/Local/realesrgan/Cache'], 'LOCALAPPDATA',
     ['realesrgan'] * 2 + ['realesrgan/Cache'])])
def test_folders_of_the_user(monkeypatch, system, folders, variables, moved):
    monkeypatch.setattr(sys, 'platform', system)
    monkeypatch.setenv('HOME', '/home/me')
    for kind, folder, other in zip(('config', 'data', 'cache'), folders, moved, strict=True):
        variable = variables.format(kind.upper())
        monkeypatch.delenv(variable, raising=False)
        assert find_user_folder(kind) == Path('/home/me', folder)
        for value, expected in ('/elsewhere', Path('/elsewhere', other)), ('', Path('/home/me', folder)), (
                'below/here', Path('/home/me', folder)):
            monkeypatch.setenv(variable, value)
            assert find_user_folder(kind) == expected


def test_sha256_of_known_bytes(tmp_path):
    (tmp_path / 'abc').write_bytes(b'abc')
    assert hash_file(tmp_path / 'abc') == 'ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad'


def test_damaged_json_is_an_empty_object(tmp_path):
    file = tmp_path / 'note.json'
    assert read_json(file) == {}
    for text, expected in ('{"a": 1}', {'a': 1}), ('{"a": ', {}), ('[1]', {}), ('[' * 100_000, {}):
        file.write_text(text)
        assert read_json(file) == expected
