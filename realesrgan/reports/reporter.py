"""Listen to a run, and write down what it did: figures of each file, how good the results are, what looks wrong."""
from __future__ import annotations

import errno
import json
import os
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import psutil

from ..engines.cpu import count_cores
from ..errors import flatten_message
from ..events import Event, Examined, Outcome, Warned
from ..files import require_writable, whole_file
from ..log import escape
from ..measures import STAGES, Preview, Quality
from ..version import __version__
from .page import render_page

#: Of how many files a report holds pictures, so that one about thousands stays small enough to open.
MOST_PREVIEWS = 200


@dataclass
class FileReport:
    """What is known about one file.

    Attributes:
        outcome: How it ended; None while it has not.
        warnings: Lines about it.
        samples: What was compared of it: a picture (None), or frames of a video by their numbers, and how each was.
        preview: Small pictures of the sample with the most findings, the first of equals.
    """

    outcome: Outcome | None = None
    warnings: list[str] = field(default_factory=list)
    samples: list[tuple[int | None, Quality]] = field(default_factory=list)
    preview: Preview | None = None

    def add(self, examined: Examined, *, keep_preview: bool) -> None:
        """Add a sample; its pictures are kept only as `preview`."""
        most = max((len(quality.findings) for _, quality in self.samples), default=-1)
        if keep_preview and len(examined.quality.findings) > most:
            self.preview = examined.preview
        self.samples.append((examined.frame, examined.quality))


class Reporter:
    """Listens to a run and writes a report in the end, also of a run that ends early; a context manager.

    Args:
        path: The report: JSON if its name ends in .json, else a page.
        title: What the report is about: the model, say.
        on_event: Gets each event first.

    Raises:
        OSError: the report can't be written there.
    """

    def __init__(self, path: str | os.PathLike[str], title: str, on_event: Callable[[Event], None]) -> None:
        self._path = Path(path)
        require_writable(self._path.parent)
        if self._path.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
        self._title = title
        self._on_event = on_event
        self._files: dict[str, FileReport] = {}
        self._warnings: list[str] = []
        self._previews = 0
        self._start = time.perf_counter()
        self._started = datetime.now().astimezone()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 traceback: TracebackType | None) -> None:
        report = self.describe()
        with whole_file(self._path) as temporary:
            if self._path.suffix.lower() == '.json':
                temporary.write_text(json.dumps(report, indent=1) + '\n', encoding='utf-8')
            else:
                previews = [self._files[source].preview for source in self._list_ended()]
                temporary.write_text(render_page(report, previews), encoding='utf-8')

    def __call__(self, event: Event) -> None:
        """Take an event."""
        self._on_event(event)
        if isinstance(event, Warned) and not event.source:
            self._warnings.append(event.message)
        elif isinstance(event, Warned):
            self._file(event.source).warnings.append(event.message)
        elif isinstance(event, Examined):
            file = self._file(event.source)
            keep = file.preview is not None or self._previews < MOST_PREVIEWS
            self._previews += keep and file.preview is None
            file.add(event, keep_preview=keep)
        elif isinstance(event, Outcome):
            self._file(event.source).outcome = event

    def describe(self) -> dict[str, Any]:
        """Return the report as simple values, as they stand in its JSON."""
        return {
            'title': self._title, 'version': __version__, 'started': self._started.isoformat(timespec='seconds'),
            'seconds': round(time.perf_counter() - self._start, 3),
            'machine': {'cores': count_cores(), 'memory_bytes': psutil.virtual_memory().total},
            'warnings': [escape(line) for line in self._warnings],
            'files': [_describe_file(self._files[source]) for source in self._list_ended()]}

    def _file(self, source: str) -> FileReport:
        return self._files.setdefault(source, FileReport())

    def _list_ended(self) -> list[str]:
        return [source for source, file in self._files.items() if file.outcome is not None]


def _describe_file(file: FileReport) -> dict[str, Any]:
    outcome, effort = file.outcome, file.outcome and file.outcome.effort
    assert outcome is not None
    error = flatten_message(outcome.error) if outcome.error else ''
    logged = {*outcome.problems, error}
    unit = 'megapixels/s' if outcome.megapixels else 'frames/s'
    amount = outcome.megapixels or outcome.frames - outcome.reused
    return {
        'source': escape(outcome.source), 'target': _show(outcome.target), 'comparison': _show(outcome.comparison),
        'status': 'skipped' if outcome.skipped else 'failed' if outcome.failed else 'done',
        'error': None if outcome.error is None else escape(error.removeprefix(f'{outcome.source}: ')),
        'problems': [escape(line) for line in outcome.problems],
        'warnings': [escape(line) for line in file.warnings if line not in logged],
        'size': outcome.size, 'result_size': outcome.result_size,
        'frames': outcome.frames, 'reused': outcome.reused, 'seconds': round(outcome.seconds, 3),
        'rate': round(amount / outcome.seconds, 4) if outcome.seconds and amount else None, 'unit': unit,
        'engine': effort.engine if effort else None, 'device': effort.device if effort else None,
        'precision': effort.precision if effort else None, 'tiles': effort.tiles if effort else None,
        'stages': {name: round(effort.seconds.get(name, 0), 3) for name in STAGES} if effort else None,
        'host_bytes': effort.host_bytes if effort else None, 'gpu_bytes': effort.gpu_bytes if effort else None,
        'samples': [{'frame': frame, **asdict(quality)} for frame, quality in file.samples]}


def _show(path: Path | None) -> str | None:
    return None if path is None else escape(str(path))
