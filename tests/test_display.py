"""The terminal during a run."""
from __future__ import annotations

import fcntl
import os
import pty
import re
import signal
import subprocess
import sys
import termios
from collections import defaultdict
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[1]
WORK = """
import argparse, sys, time
from realesrgan.cli import display, run
from realesrgan.events import Found, Outcome, Progress
display._SECONDS_BETWEEN_BEATS = 0.05

def work(args):
    with display.Display('{unit}', quiet=False, verbose=False, to=sys.stdout) as shown:
        shown(Outcome('missing', error=OSError()))
        shown(Found(3))
        shown(Outcome('a', 'b', frames=1, megapixels=1))
        try:
            for number in range(10, {ends}):
                shown(Progress('c', number, 1000))
                time.sleep(0.01)
        except KeyboardInterrupt:
            run.logger.warning('some is lost')
            raise
        {after}
    return shown.summarise()
parser = argparse.ArgumentParser()
parser.set_defaults(verbose=False, quiet=False)
sys.exit(run.run(work, parser, []))
"""


class Screen:
    """The lines of a terminal of so many columns, after what has been written to it."""

    def __init__(self, columns):
        self._columns, self._x, self._y = columns, 0, 0
        self._lines = defaultdict(list)  # from 0 on

    def write(self, text):
        for sign in re.findall(r'\x1b\[[AK]|.', text, re.DOTALL):
            if sign == '\r':
                self._x = 0
            elif sign == '\n':
                self._y += 1
            elif sign == '\x1b[A':
                self._y -= 1
            elif sign == '\x1b[K':
                del self._lines[self._y][self._x:]
            else:
                assert sign >= ' ', repr(sign)
                if self._x == self._columns:
                    self._x, self._y = 0, self._y + 1
                line = self._lines[self._y]
                line += ' ' * (self._x + 1 - len(line))
                line[self._x] = sign
                self._x += 1

    @property
    def lines(self):
        texts = [''.join(self._lines[y]).rstrip() for y in sorted(self._lines)]
        return [text for text in texts if text]


def take_terminal():
    """Make the pseudo-terminal the child's own, whose Ctrl-C reaches it also where ours is ignored."""
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
    signal.signal(signal.SIGINT, signal.default_int_handler)


def show(columns, stop_at, *, unit, ends, after=''):
    """Return the lines of a terminal at each moment, and the run's status; Ctrl-C comes when a pattern is on it."""
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (24, columns))
    screen, moments = Screen(columns), []
    command = [sys.executable, '-c', WORK.format(unit=unit, ends=ends, after=after)]
    with subprocess.Popen(command, cwd=PROJECT, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True,
                          preexec_fn=take_terminal) as process:
        os.close(theirs)
        try:
            while piece := os.read(ours, 4096):
                screen.write(piece.decode(errors='replace'))
                moments.append(screen.lines)
                if stop_at and re.search(stop_at, '\n'.join(screen.lines)):
                    stop_at = None
                    os.write(ours, b'\x03')
        except OSError:  # as Linux tells that the other end is closed
            pass
    os.close(ours)
    return moments, process.returncode


FILES = r' *\d+%\|.+\| 1/3 \[00:0\d<(\d\d:\d\d|\?)\]'
FRAMES = r' *\d+%\|.+\| \d+/1000 \[00:0\d<\d\d:\d\d'


@pytest.mark.parametrize('columns', [36, 80])
@pytest.mark.parametrize('unit', ['megapixels', 'frames'])
def test_bars_fit_the_terminal_and_are_gone_after_ctrl_c(columns, unit):
    bars = [FILES] + ([FRAMES + (r'\]' if columns == 36 else r', [\d. ]+frame/s\]')] if unit == 'frames' else [])
    moments, status = show(columns, '\n'.join(bars), unit=unit, ends=10 ** 6)
    assert status == 130
    assert any(all(map(re.fullmatch, bars, lines[-len(bars):])) for lines in moments)
    assert not [line for line in moments[-1] if '|' in line or '^C' in line]
    assert 'warning: some is lost' in moments[-1]
    assert moments[-1][-1] == 'error: interrupted'


def test_the_clock_goes_on_while_one_picture_takes_long():
    moments, status = show(36, '', unit='megapixels', ends=10, after='time.sleep(2.5)')  # which reports no progress
    assert status == 1  # a file was missing
    clocks = re.findall(r'1/3 \[(00:0\d)<', '\n'.join('\n'.join(lines) for lines in moments))
    assert len(set(clocks)) > 1
