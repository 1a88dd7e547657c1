"""Upscale pictures that lie on another machine, as if they were here."""
from __future__ import annotations

import os
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..atomic_files import remove_leftovers, temporary_folder
from ..errors import ClusterError, ImageError, RealESRGANError, flatten_message, rename_files, replace_names
from ..events import Outcome
from ..workers.depot import DepotClient
from ..workers.pool import Report, Worker
from .formats import MOST_PIXELS
from .inputs import InputFile, require_few_bytes
from .worker import PictureTask


class ShippingPictureWorker:
    """Gets pictures from a depot, and takes results there.

    Args:
        depot: Where the files are.
        worker: Upscales pictures, and writes results here.
    """

    def __init__(self, depot: DepotClient, worker: Worker[PictureTask, None]) -> None:
        self._depot = depot
        self._worker = worker
        remove_leftovers(Path(tempfile.gettempdir()))  # of workers that were killed

    def __call__(self, task: PictureTask, report: Report) -> None:
        """See `PictureWorker`."""
        with temporary_folder(Path(tempfile.gettempdir()) / 'pictures') as folder:
            homes: dict[Path, Path] = {}  # where files of the folders here belong
            jobs = []
            for job in task.jobs:
                home = job.target_stem.parent
                absolute = Path(os.path.abspath(home))
                here = folder / absolute.relative_to(absolute.anchor)
                homes[here] = home
                file = _DepotFile(job.file.path, job.file.folder, found=job.file.found, depot=self._depot)
                jobs.append(replace(job, file=file, target_stem=here / job.target_stem.name))

            def pass_on(note: Any) -> None:
                if isinstance(note, Outcome) and isinstance(note.error, ClusterError):
                    raise note.error  # no other picture would fare better
                report(self._bring_home(note, homes) if isinstance(note, Outcome) else note)
            self._worker(replace(task, jobs=jobs, sources=frozenset(), taken=frozenset()), pass_on)

    def _bring_home(self, outcome: Outcome, homes: dict[Path, Path]) -> Outcome:
        """Store the files of an outcome in the depot, and return it with their names there."""
        def store(file: Path | None) -> Path | None:
            if file is None:
                return None
            target = homes[file.parent] / file.name
            self._depot.store(file, target, outcome.source)
            file.unlink()
            return target
        try:
            outcome = replace(outcome, target=store(outcome.target))
        except ClusterError:
            raise
        except (RealESRGANError, OSError) as error:
            return Outcome(outcome.source, error=error)
        names = {str(here): str(home) for here, home in homes.items()}
        if outcome.error is not None:
            rename_files(outcome.error, names)
        outcome = replace(outcome, problems=tuple(replace_names(line, names) for line in outcome.problems))
        try:
            return replace(outcome, comparison=store(outcome.comparison))
        except (ImageError, OSError) as error:
            return replace(outcome, comparison=None, problems=(f'no comparison: {flatten_message(error)}',))


@dataclass(frozen=True, kw_only=True)
class _DepotFile(InputFile):
    """A picture in a depot."""

    depot: DepotClient

    def read(self, max_pixels: int = MOST_PIXELS) -> bytes:
        size, written = self.depot.inspect(self.path)
        require_few_bytes(size, max_pixels)
        return b''.join(self.depot.read(self.path, (size, written), 0, size))
