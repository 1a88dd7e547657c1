"""How errors are answered: a status, a sentence for people, and the code by which the page finds it in its language.

What the client did wrong is told as it is. Of all other errors the client gets a sentence, and the log the error, which
may name files of this machine.
"""
from __future__ import annotations

import errno
import json
import os
import re
import sys
import tempfile
from pathlib import Path
from typing import Any

from ..errors import (
    DeviceError,
    DiskFullError,
    EngineError,
    FacePackagesError,
    ImageError,
    MediaError,
    MediaWriteError,
    NonFiniteError,
    RealESRGANError,
    RunError,
    UsageError,
    VideoError,
    WeightsError,
    WorkerError,
)

# The words of the page, by language.
STRINGS = json.loads((Path(__file__).parent / 'templates/strings.json').read_text('utf-8'))
# A path of this machine; its last part may stay. What follows a scheme, as in an address, is none.
_PATH = re.compile(r'(?<![\w:/\\.])(?:[A-Za-z]:)?[\\/](?:[^\\/\s:\'"]+[\\/])+')


class RequestError(RealESRGANError):
    """The client asked for what it can't have. The message is for it.

    Args:
        message: One line.
        code: The name of the page's sentence, see `find_row`.
        values: What stands in it.
    """

    status = 422

    def __init__(self, message: str, code: str, **values: Any) -> None:
        super().__init__(message)
        self.code = code
        self.values = values


class FieldError(RequestError):
    """A field of the form has a value that is not allowed."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(f'{field}: {message}', 'field', field=field)


class UnknownFileError(RequestError):
    """The upload is neither a picture nor a video."""

    status = 415

    def __init__(self, message: str = 'this is not a picture or a video that can be read',
                 code: str = 'unknown_file') -> None:
        super().__init__(message, code)


class TooLargeError(RequestError):
    """The upload has too many pixels, or lasts too long."""

    status = 413


class QueueFullError(RequestError):
    """No more jobs may wait. `retry_after` is when to ask again, in seconds."""

    status = 429

    def __init__(self, retry_after: int) -> None:
        super().__init__(f'the service is busy; try again in {retry_after} seconds', 'busy', seconds=retry_after)
        self.retry_after = retry_after


class StoreFullError(RequestError):
    """No more files are kept until some are removed."""

    status = 507

    def __init__(self) -> None:
        super().__init__('the service keeps as many files as it may: remove some', 'full')


class JobTimeoutError(RequestError):
    """A job ran longer than it may."""

    status = 503

    def __init__(self, seconds: float) -> None:
        super().__init__(f'it took longer than {seconds:g} seconds', 'timeout', limit=seconds)


#: The status and the sentence of an error of the library; the first that fits.
_ROWS: dict[type[BaseException], tuple[int, str]] = {
    UsageError: (422, 'usage'), ImageError: (422, 'image'), MediaWriteError: (503, 'disk'), VideoError: (422, 'video'),
    MediaError: (422, 'video'), WeightsError: (503, 'weights'), DeviceError: (503, 'device'),
    EngineError: (503, 'device'), FacePackagesError: (503, 'faces'), DiskFullError: (503, 'disk'),
    RunError: (503, 'unknown'), NonFiniteError: (500, 'not_finite'), WorkerError: (500, 'worker'),
    MemoryError: (503, 'memory')}


def find_row(error: BaseException | None) -> tuple[int, str]:
    """Return the status of an error, and its code: `error_CODE` is its sentence among the page's strings."""
    if isinstance(error, RequestError):
        return error.status, error.code
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        return 503, 'disk'
    return next((row for kind, row in _ROWS.items() if isinstance(error, kind)), (500, 'unknown'))


def describe(error: BaseException | None) -> dict[str, Any]:
    """Return what a client is told about an error: `error`, a line; `code`, and the `values` of the page's sentence."""
    _, code = find_row(error)
    return {'error': hide_paths(str(error)) if isinstance(error, (RequestError, UsageError)) else
            STRINGS['en'][f'error_{code}'],
            'code': code, 'values': error.values if isinstance(error, RequestError) else {}}


def hide_paths(text: str, *folders: Path) -> str:
    """Return a text in one line, without paths of this machine: files keep their names.

    Args:
        text: The text.
        folders: Further ones whose paths are left out.
    """
    line = ' '.join(text.split())
    home = os.path.expanduser('~')  # noqa: PTH111 # never fails, as in a container whose user has no home
    own = (*folders, tempfile.gettempdir(), Path(__file__).parents[2], Path.cwd(), sys.prefix, home)
    for folder in sorted((str(folder).rstrip('/\\') for folder in own), key=len, reverse=True):
        if folder:
            line = line.replace(f'{folder}/', '').replace(f'{folder}\\', '')
    return _PATH.sub('', line)
