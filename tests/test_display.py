"""The terminal during a run."""
from __future__ import annotations

import os
import pty
import re
import subprocess
import sys
import termios
from pathlib import Path

PROJECT = Path(__file__).parents[1]
LONG = """
import sys, time
from realesrgan.cli import display
from realesrgan.events import Found, Outcome
display._SECONDS_BEFORE_TILES, display._SECONDS_BETWEEN_BEATS = 0.1, 0.05
with display.Display('megapixels', quiet=False, verbose=False, to=sys.stdout) as shown:
    shown(Found(1))
    time.sleep(2.5)  # a picture without tiles
    shown(Outcome('a.png', megapixels=1))
"""


def test_the_clock_goes_on_while_one_picture_takes_long():
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (24, 80))
    with subprocess.Popen([sys.executable, '-c', LONG], cwd=PROJECT, stdin=theirs, stdout=theirs,
                          stderr=theirs) as process:
        os.close(theirs)
        seen = b''
        try:
            while piece := os.read(ours, 4096):
                seen += piece
        except OSError:  # as Linux tells that the other end is closed
            pass
    os.close(ours)
    assert process.returncode == 0
    clocks = re.findall(r'0/1 \[(00:0\d)<', seen.decode())
    assert {'00:00', '00:01', '00:02'} <= set(clocks)
