"""Name the picture or video that a log line is about."""
from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar

_subject: ContextVar[str] = ContextVar('subject', default='')


@contextlib.contextmanager
def about(name: object) -> Iterator[None]:
    """Say that all log lines of this thread are about `name` meanwhile."""
    token = _subject.set(str(name))
    try:
        yield
    finally:
        _subject.reset(token)


def with_subject(message: str) -> str:
    """Return a log line with the name of what it is about before it, unless the line begins with it."""
    subject = _subject.get()
    return message if not subject or message.startswith(subject) else f'{subject}: {message}'
