"""`--log`: everything that -v prints, appended to a file, whatever the terminal shows."""
from __future__ import annotations

import logging
import os
import re
from functools import partial
from pathlib import Path

import pytest

import inference_realesrgan
from realesrgan.log import append_log
from realesrgan.pictures import PictureOptions, upscale_pictures
from realesrgan.pool.pool import Place
from realesrgan.pool.processes import ProcessPool
from tests.support.clips import save_network
from tests.support.made_pictures import write_noise
from tests.support.pool_workers import Doubler

LINE = re.compile(r'\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3} (\d+) ([A-Z]+) (.*)')


def read(path='run.log'):
    """The level and the message of each line; those of tracebacks have none."""
    return [(found[2], found[3]) if (found := LINE.fullmatch(line)) else ('', line)
            for line in Path(path).read_text(encoding='utf-8').splitlines()]


@pytest.fixture
def run(run_script, tmp_path):
    """Run the picture script with a small network on a good and a bad picture."""
    write_noise(tmp_path / 'a.png')
    (tmp_path / 'b.png').write_bytes(b'no picture')
    return partial(run_script, inference_realesrgan, '--model_path', save_network(tmp_path / 'tiny.pth'), '-i',
                   'a.png', 'b.png')


def test_the_file_holds_the_details_whatever_stderr_shows(run):
    status, out, err = run('--log', 'run.log', '-o', 'one', '-q')
    assert (status, out, err) == (1, '', 'error: b.png: not a picture, or a damaged one\n')
    lines = read()
    texts = [text for _, text in lines]
    assert texts[0].startswith('Real-ESRGAN ')
    assert "log='run.log'" in texts[0]
    assert any(text.startswith('a.png -> one/a_out.png') for text in texts)
    assert any(level == 'DEBUG' and text.startswith('memory: ') for level, text in lines)
    error = lines.index(('ERROR', 'b.png: not a picture, or a damaged one'))
    assert lines[error + 1] == ('', 'Traceback (most recent call last):')
    status, out, err = run('--log', 'run.log', '-o', 'two')
    assert read()[:len(lines)] == lines
    assert re.match(r'1 done, 1 failed, ', read()[-1][1])
    assert read()[-1] == ('INFO', out.strip())
    assert 'memory: ' not in err


def test_a_file_that_can_not_be_opened_is_one_line(run):
    status, out, err = run('--log', 'nowhere/run.log')
    assert (status, out) == (1, '')
    assert err == f'error: {os.path.abspath("nowhere/run.log")}: No such file or directory\n'


@pytest.mark.skipif(not os.path.exists('/dev/full'), reason='only Linux has it')
def test_a_full_disk_does_not_end_the_run(run):
    status, _, err = run('--log', '/dev/full', '-q', '-o', 'one')
    assert (status, os.path.exists('one/a_out.png')) == (1, True)
    assert err.splitlines() == ["warning: the log /dev/full can't be written: [Errno 28] No space left on device",
                                'error: b.png: not a picture, or a damaged one']


def test_programs_get_it_too_and_their_logger_back(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    logger = logging.getLogger('realesrgan')
    logger.setLevel(logging.WARNING)
    with append_log('run.log'):  # as scripts do, for what they log outside
        upscale_pictures('a.png', 'one', PictureOptions(model_path=str(tmp_path / 'tiny.pth'), log='run.log'))
    assert (logger.handlers, logger.level) == ([], logging.WARNING)
    lines = read()
    assert len(lines) == len(set(lines)) > 2
    assert ('INFO', f'weights: {tmp_path / "tiny.pth"}') in lines


def test_lines_of_worker_processes_come_with_their_numbers(tmp_path):
    logging.getLogger('realesrgan').propagate = False
    with append_log(str(tmp_path / 'run.log')), ProcessPool(Doubler, [Place()]) as pool:
        assert [result for _, result in pool.map_unordered([4], lambda *_: None)] == [8]
    found = LINE.fullmatch((tmp_path / 'run.log').read_text().strip())
    assert (found[2], found[3]) == ('WARNING', 'a number: 4 is doubled on the CPU or the first GPU')
    assert int(found[1]) != os.getpid()
