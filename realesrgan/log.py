"""Attach log lines to the file they are about, and to the run that logged them; append them to a file."""
from __future__ import annotations

import contextlib
import contextvars
import logging
import os
import sys
import threading
import unicodedata
from collections.abc import Callable, Iterator
from contextvars import ContextVar

_subject: ContextVar[str] = ContextVar('subject', default='')
_reporter: ContextVar[logging.Handler | None] = ContextVar('reporter', default=None)


@contextlib.contextmanager
def about(name: object) -> Iterator[None]:
    """Attach `name`, a file, to everything this thread logs inside the block."""
    token = _subject.set(str(name))
    try:
        yield
    finally:
        _subject.reset(token)


def get_subject(record: logging.LogRecord) -> str:
    """Return the file that a log record is about, or ''. A record of a worker process carries its own."""
    own: str | None = getattr(record, 'subject', None)
    return _subject.get() if own is None else own


def prefix_subject(record: logging.LogRecord, message: str) -> str:
    """Put the file that a record is about in front of its message, unless the message begins with it."""
    subject = get_subject(record)
    return message if not subject or message.startswith((f'{subject}: ', f'{subject} ')) else f'{subject}: {message}'


def escape(text: str) -> str:
    """Return a text with escape sequences for characters that a terminal would obey or can't show."""
    return ''.join(character if character == '\t' or not _is_hostile(character) else ascii(character)[1:-1]
                   for character in text)


def _is_hostile(character: str) -> bool:
    return unicodedata.category(character) in ('Cc', 'Cs', 'Zl', 'Zp') or unicodedata.bidirectional(character) in (
        'LRE', 'RLE', 'LRO', 'RLO', 'PDF', 'LRI', 'RLI', 'FSI', 'PDI')


class _Reporter(logging.Handler):
    """Passes on the warnings of one run: those logged in the context that it was set in."""

    def __init__(self, on_warning: Callable[[str, str], None]) -> None:
        super().__init__(logging.WARNING)
        self._on_warning = on_warning

    def handle(self, record: logging.LogRecord) -> bool:
        # Not emit(), whose caller holds a lock: the caller of a run may take long over a warning.
        if _reporter.get() is self:
            self._on_warning(get_subject(record), record.getMessage())
        return True


@contextlib.contextmanager
def report_warnings(on_warning: Callable[[str, str], None]) -> Iterator[None]:
    """Call `on_warning(file, message)` for each warning that is logged inside the block.

    Only this thread's warnings count, and those of threads made by `create_thread`, so that runs in other threads of
    the same process do not mix.
    """
    reporter, logger = _Reporter(on_warning), logging.getLogger('realesrgan')
    token = _reporter.set(reporter)
    logger.addHandler(reporter)
    try:
        yield
    finally:
        logger.removeHandler(reporter)
        _reporter.reset(token)


class _LogFile(logging.FileHandler):
    """Appends lines to a file. Where that fails the run goes on, and stderr says so once."""

    def __init__(self, path: str) -> None:
        super().__init__(path, encoding='utf-8', errors='backslashreplace')
        self.setFormatter(_LogFileFormatter('%(asctime)s %(process)d %(levelname)s %(message)s'))
        self._has_failed = False

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802
        if not self._has_failed and sys.stderr is not None:
            self._has_failed = True
            with contextlib.suppress(OSError):
                sys.stderr.write(f"warning: the log {self.baseFilename} can't be written: {sys.exc_info()[1]}\n")


class _LogFileFormatter(logging.Formatter):
    """Writes a record with its time, the number of the process that logged it, and the file that it is about."""

    default_msec_format = '%s.%03d'

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802
        record.message = escape(prefix_subject(record, record.message))
        return super().formatMessage(record)


@contextlib.contextmanager
def append_log(path: str | None) -> Iterator[None]:
    """Append to a file what the package logs inside the block, details and tracebacks too; to None, nothing.

    Where the file is open for an outer block already, that one writes the lines.

    Raises:
        OSError: it can't be opened.
    """
    logger = logging.getLogger('realesrgan')
    if path is None or os.path.abspath(path) in [getattr(handler, 'baseFilename', '') for handler in logger.handlers]:
        yield
        return
    file, level = _LogFile(path), logger.level
    logger.addHandler(file)
    logger.setLevel(logging.DEBUG)
    try:
        yield
    finally:
        logger.setLevel(level)
        logger.removeHandler(file)
        with contextlib.suppress(OSError):  # the disk is full, which has been said
            file.close()


def create_thread(task: Callable[[], None], name: str) -> threading.Thread:
    """Return a thread, not started yet, whose log lines count as this thread's. It does not keep the process alive."""
    return threading.Thread(target=contextvars.copy_context().run, args=(task,), name=name, daemon=True)
