"""Show the events of a run on a terminal: bars while it works, a line for each file, the totals at the end."""
from __future__ import annotations

import logging
import sys
import threading
import time
from collections import Counter
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TextIO

from ..events import Event, Found, Outcome, Outlined, Progress
from ..log import about, escape
from .run import PRINTED, log_error, write_line

if TYPE_CHECKING:
    from tqdm import tqdm

logger = logging.getLogger(__name__)
_printed = logging.getLogger(PRINTED)

_SECONDS_BEFORE_TILES = 3  # how long a picture must take for its tiles to be shown
_SECONDS_BETWEEN_BEATS = 1.0


class Display:
    """Takes the events of a run; a context manager that removes its bars in the end.

    Args:
        unit: What the rates count: 'megapixels' for pictures, 'frames' for videos.
        quiet: Show errors only.
        verbose: Show the tracebacks of errors.
        to: Where lines and totals go.
    """

    def __init__(self, unit: str, *, quiet: bool, verbose: bool, to: TextIO) -> None:
        self._unit = unit
        self._quiet = quiet
        self._verbose = verbose
        self._to = to
        self._start = time.perf_counter()
        self._outcomes: list[Outcome] = []
        self._found = 0
        self._outlined = False
        self._unwritten = False
        self._files: tqdm[Any] | None = None
        self._steps: tqdm[Any] | None = None
        self._shown = ''
        self._ended = threading.Event()
        self._heart = threading.Thread(target=self._keep_moving, daemon=True)

    def __enter__(self) -> Self:
        self._heart.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 traceback: TracebackType | None) -> None:
        self._ended.set()
        self._heart.join()
        self._close_steps()
        if self._files is not None:
            self._files.close()
        if error is not None and self._outcomes:  # the totals so far, before the error is shown
            self.summarise()
        done = sum(not outcome.failed and not outcome.skipped for outcome in self._outcomes)
        is_ended_early = error is not None and self._found > max(done, 1) and not self._outlined
        if is_ended_early and (done or not isinstance(error, Exception)):  # an error may have come before all work
            with about(''):
                logger.warning('%d of %d done; the same command with --skip_existing resumes', done, self._found)

    def __call__(self, event: Event) -> None:
        """Show an event."""
        if isinstance(event, Found):
            self._open_files(event.count)
        elif isinstance(event, Progress):
            self._advance(event)
        elif isinstance(event, Outcome):
            self._finish_file(event)
        elif isinstance(event, Outlined):
            self._outlined = True
            for line in event.lines:
                self._write(line)
            if self._files is not None:
                self._files.update()

    def summarise(self) -> int:
        """Print the totals and return the exit status: 1 if a file failed or the totals could not be written."""
        failed = sum(outcome.failed for outcome in self._outcomes)
        skipped = sum(outcome.skipped for outcome in self._outcomes)
        parts = [f'{len(self._outcomes) - failed - skipped} done', f'{failed} failed']
        if skipped:
            parts.append(f'{skipped} skipped')
        words = Counter(outcome.verdict.word for outcome in self._outcomes if outcome.verdict is not None)
        parts += [f'{words[word]} {word}' for word in ('look', 'bad') if words[word]]
        seconds = time.perf_counter() - self._start
        amount = sum(outcome.megapixels if self._unit == 'megapixels' else outcome.frames - outcome.reused
                     for outcome in self._outcomes)
        if not self._quiet and not self._outlined:
            rate = f', {amount / max(seconds, 1e-9):.3g} {self._unit}/s' if amount else ''
            self._write(f'{", ".join(parts)}, {seconds:.1f} s{rate}')
        return int(failed > 0 or self._unwritten)

    # ---- bars ----

    def _open_files(self, count: int) -> None:
        self._found = count
        if count > 1:
            self._show_files()

    def _show_files(self) -> None:
        """Make the bar of the files; none for a single video, whose frames are counted, nor without a terminal."""
        if self._quiet or not sys.stderr.isatty() or (self._found == 1 and self._unit == 'frames'):
            return
        from tqdm import tqdm
        bar = tqdm(total=self._found, initial=len(self._outcomes), unit='file')
        bar.start_t -= time.perf_counter() - self._start
        self._files = bar

    def _advance(self, event: Progress) -> None:
        """Show how far a picture is only if it takes long, and frames always."""
        if self._quiet or not sys.stderr.isatty() or event.done == event.total == 1:
            return
        from tqdm import tqdm
        bar = self._steps
        if bar is not None and event.source != self._shown:
            return  # of several pictures at a time one is shown
        if bar is None:
            # An earlier run's frames count for nothing in the rate.
            self._shown, is_picture = event.source, self._unit == 'megapixels'
            bar = self._steps = tqdm(
                total=event.total, initial=event.reused, leave=False, disable=None, unit='frame',
                bar_format='{percentage:3.0f}%|{bar}| [{elapsed}<{remaining}]' if is_picture else None,
                position=int(self._files is not None), delay=_SECONDS_BEFORE_TILES if is_picture else 0)
        bar.update(event.done - bar.n)

    def _keep_moving(self) -> None:
        """Show the time that has passed also while a single picture or frame takes long.

        The bar of a single picture is made here: tqdm takes a twentieth of the time of a small one to import.
        """
        while not self._ended.wait(_SECONDS_BETWEEN_BEATS):
            if self._files is None and self._found == 1 and self._steps is None:
                self._show_files()
            for bar in (self._files, self._steps):
                if bar is not None and not bar.disable and time.time() - bar.start_t > _SECONDS_BEFORE_TILES:
                    bar.refresh()

    def _close_steps(self) -> None:
        if self._steps is not None:
            self._steps.close()
            self._steps = None

    def _finish_file(self, outcome: Outcome) -> None:
        if outcome.source == self._shown:
            self._close_steps()
        self._outcomes.append(outcome)
        with about(outcome.source):
            if outcome.error is not None:
                log_error(outcome.error, traceback=self._verbose)
            elif outcome.skipped:
                logger.info('skipped: %s exists', outcome.target)
            elif outcome.megapixels:  # a picture
                verdict = '' if outcome.verdict is None else f': {outcome.verdict}'
                logger.info('%s -> %s%s', outcome.source, outcome.target or 'stdout', verdict)
            if outcome.flicker is not None:
                logger.log(logging.DEBUG if outcome.flicker.steadied is None else logging.INFO, '%s', outcome.flicker)
            for problem in outcome.problems:
                logger.error('%s', problem)
        if outcome.frames and not outcome.megapixels and not self._quiet:
            self._print_video(outcome)
        if self._files is not None:
            self._files.update()

    def _print_video(self, outcome: Outcome) -> None:
        reused = f' ({outcome.reused} of them from an earlier run)' if outcome.reused else ''
        rate = (outcome.frames - outcome.reused) / max(outcome.seconds, 1e-9)
        verdict = '' if outcome.verdict is None else f', {outcome.verdict}'
        self._write(f'{outcome.target}: {outcome.frames} frames{reused}, {rate:.3g} frames/s, {outcome.seconds:.1f} s'
                    f'{verdict}')

    def _write(self, line: str) -> None:
        """Write a line above the bars. If that fails the run goes on, and ends with status 1."""
        _printed.info('%s', line)
        try:
            write_line(escape(line), self._to)
            self._to.flush()
        except OSError as error:
            if not self._unwritten:
                with about(''):
                    logger.error('stdout can\'t be written: %s', error.strerror)
            self._unwritten = True
