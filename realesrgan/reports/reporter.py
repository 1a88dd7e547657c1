"""Collect the events of a run, and write a report: figures of each file, how good the results are, what looks wrong."""
from __future__ import annotations

import base64
import errno
import json
import os
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path, PurePath
from typing import Any, Self
from urllib.parse import quote

import psutil

from ..engines.cpu import count_cores
from ..errors import flatten_message
from ..events import Cell, Event, Examined, Outcome, Preview, Quality, Warned
from ..files import require_writable, whole_file
from ..log import escape
from ..timings import STAGES
from ..version import __version__

#: Of how many files a report holds pictures, so that one about thousands stays small enough to open.
MOST_PREVIEWS = 200


@dataclass
class FileReport:
    """Everything that a run has reported about one file.

    Attributes:
        outcome: How it ended; None while it has not.
        warnings: Lines about it.
        samples: Each comparison with the input: the number of the frame, or None for a picture, and the quality.
        preview: Small pictures of the sample with the most findings, the first of equals.
        cells: Where that sample looks wrong.
    """

    outcome: Outcome | None = None
    warnings: list[str] = field(default_factory=list)
    samples: list[tuple[int | None, Quality]] = field(default_factory=list)
    preview: Preview | None = None
    cells: Sequence[Cell] = ()


class Reporter:
    """Collects the events of a run and writes a report in the end, also of a run that ends early; a context manager.

    Args:
        path: The report: JSON if its name ends in .json, else a page.
        title: The subject of the report, such as the model.
        on_event: Called with each event first.
        command: The command line of the run, which the report quotes.

    Raises:
        OSError: the report can't be written there.
    """

    def __init__(self, path: str | os.PathLike[str], title: str, on_event: Callable[[Event], None],
                 command: str = '') -> None:
        self._path = Path(path)
        require_writable(self._path.parent)
        if self._path.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
        self._title = title
        self._command = command
        self._on_event = on_event
        self._files: defaultdict[str, FileReport] = defaultdict(FileReport)
        self._warnings: list[str] = []
        self._previews = 0
        self._start = time.perf_counter()
        self._started = datetime.now().astimezone()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        report = self.describe()
        if self._path.suffix.lower() == '.json':
            text = json.dumps(report, indent=1) + '\n'
        else:
            text = _render_page(report, self._list_ended(), self._path.parent)
        with whole_file(self._path) as temporary:
            temporary.write_text(text, encoding='utf-8')

    def __call__(self, event: Event) -> None:
        """Take an event."""
        self._on_event(event)
        if isinstance(event, Warned):
            (self._files[event.source].warnings if event.source else self._warnings).append(event.message)
        elif isinstance(event, Examined):
            file = self._files[event.source]
            most = max((len(quality.findings) for _, quality in file.samples), default=-1)
            keep = file.preview is not None or self._previews < MOST_PREVIEWS
            if event.preview is not None and keep and len(event.quality.findings) > most:
                self._previews += file.preview is None
                file.preview, file.cells = event.preview, event.quality.cells
            file.samples.append((event.frame, event.quality))
        elif isinstance(event, Outcome):
            self._files[event.source].outcome = event

    def describe(self) -> dict[str, Any]:
        """Return the report as simple values, as they stand in its JSON."""
        return {
            'title': self._title, 'command': escape(self._command), 'version': __version__,
            'started': self._started.isoformat(timespec='seconds'),
            'seconds': round(time.perf_counter() - self._start, 3),
            'machine': {'cores': count_cores(), 'memory_bytes': psutil.virtual_memory().total},
            'warnings': [escape(line) for line in self._warnings],
            'files': [_describe_file(file) for file in self._list_ended()]}

    def _list_ended(self) -> list[FileReport]:
        return [file for file in self._files.values() if file.outcome is not None]


def _describe_file(file: FileReport) -> dict[str, Any]:
    outcome = file.outcome
    assert outcome is not None
    timings = outcome.timings._asdict() if outcome.timings else {}
    error = flatten_message(outcome.error) if outcome.error else ''
    logged = {*outcome.problems, error}
    # The network waits for nothing else of a picture; a video's stages run at the same time.
    seconds = timings.get('seconds', {}).get('network', 0) if outcome.megapixels else outcome.seconds
    amount = outcome.megapixels or outcome.frames - outcome.reused
    rate = float(f'{amount / seconds:.4g}') if seconds and amount else None
    return {
        'source': escape(outcome.source), 'target': _show(outcome.target), 'comparison': _show(outcome.comparison),
        'status': 'skipped' if outcome.skipped else 'failed' if outcome.failed else 'done',
        'error': None if outcome.error is None else escape(error.removeprefix(f'{outcome.source}: ')),
        'problems': [escape(line) for line in outcome.problems],
        'warnings': [escape(line) for line in file.warnings if line not in logged],
        'size': outcome.size, 'result_size': outcome.result_size,
        'scale': round(outcome.result_size[0] / outcome.size[0], 4) if outcome.result_size[0] else None,
        'frames': outcome.frames, 'reused': outcome.reused, 'seconds': round(outcome.seconds, 3),
        'rate': rate, 'unit': None if rate is None else 'megapixels/s' if outcome.megapixels else 'frames/s',
        **{name: timings.get(name) for name in (
            'model', 'engine', 'device', 'precision', 'tiles', 'host_bytes', 'gpu_bytes')},
        'stages': {name: round(timings['seconds'][name], 3) for name in STAGES if name in timings['seconds']}
        if timings else None,
        'flicker': None if outcome.flicker is None else outcome.flicker._asdict(),
        'verdict': None if outcome.verdict is None else str(outcome.verdict),
        'samples': [{'frame': frame, **quality._asdict(), 'cells': [cell._asdict() for cell in quality.cells],
                     'findings': [finding.message for finding in quality.findings]} for frame, quality in file.samples]}


def _show(path: Path | None) -> str | None:
    return None if path is None else escape(str(path))


# ---- the page ----

def _render_page(report: dict[str, Any], files: Sequence[FileReport], folder: Path) -> str:
    """Return a report, as `Reporter.describe` returns it, as one page that needs nothing beside it.

    `files` are those that it describes, whose pictures it shows; its links to results begin in `folder`.
    """
    from jinja2 import Environment, PackageLoader, select_autoescape
    environment = Environment(loader=PackageLoader('realesrgan.reports', '.'), autoescape=select_autoescape(
        default=True), trim_blocks=True, lstrip_blocks=True)
    environment.filters['data_url'] = lambda jpeg: 'data:image/jpeg;base64,' + base64.b64encode(jpeg).decode()
    environment.filters['bytes'] = lambda count: (
        f'{count / 2 ** 30:.1f} GiB' if count >= 2 ** 30 else f'{count / 2 ** 20:.0f} MiB')
    names = Counter(PurePath(file['source']).name for file in report['files'])
    rows = []
    for file, own in zip(report['files'], files, strict=True):
        assert own.outcome is not None
        name = PurePath(file['source']).name
        rows.append({
            **file, 'path': escape(os.path.abspath(own.outcome.source)) if os.path.exists(own.outcome.source) else
            file['source'], 'preview': own.preview, 'cells': own.cells, 'worst': _find_worst(file['samples']),
            'name': name if names[name] == 1 else file['source'], 'is_picture': file['unit'] == 'megapixels/s',
            'links': [(word, _find_link(path, folder), escape(path.name)) for word, path in (
                ('result', own.outcome.target), ('comparison', own.outcome.comparison)) if path is not None],
            'findings': [finding if sample['frame'] is None else f'frame {sample["frame"] + 1}: {finding}'
                         for sample in file['samples'] for finding in sample['findings']]})
    longest = max((seconds for row in rows for seconds in (row['seconds'], *(row['stages'] or {}).values())), default=0)
    stages = [stage for stage in STAGES if any(stage in (row['stages'] or ()) for row in rows)]
    return environment.get_template('page.html.jinja').render(
        report=report, rows=rows, stages=stages, longest=longest or 1, started=report['started'][:16].replace('T', ' '))


def _find_link(path: Path, folder: Path) -> str:
    """Return a link to a file, relative where that is possible, so that both may be moved together."""
    try:
        return quote(os.fsencode(Path(os.path.relpath(path, folder)).as_posix()))
    except ValueError:  # on another drive of Windows
        return path.resolve().as_uri()


def _find_worst(samples: Sequence[dict[str, Any]]) -> dict[str, float | None]:
    """Return the worst of each measure that the table shows."""
    measures = {'psnr': min, 'ssim': min, 'niqe_before': max, 'niqe_after': max, 'gained': min}
    return {name: worst((sample[name] for sample in samples if sample[name] is not None), default=None)
            for name, worst in measures.items()}
