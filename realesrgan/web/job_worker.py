"""What runs jobs in a process of its own: the library's entries, with the models of earlier jobs kept."""
from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ..enhancers import EnhancerCache
from ..options import PictureOptions, VideoOptions
from ..pictures.run import upscale_pictures
from ..pool.pool import Place, Report
from ..videos.run import upscale_videos


@dataclass(frozen=True)
class JobTask:
    """A file to upscale."""

    source: Path
    output: Path
    options: PictureOptions | VideoOptions


class JobWorker:
    """Upscales one file after the other. It reports the events of the library.

    Args:
        models_kept: How many models stay loaded; they are built with the first jobs.
    """

    def __init__(self, models_kept: int, _place: Place) -> None:
        self._enhancers = EnhancerCache(models_kept)

    def __call__(self, task: JobTask, report: Report) -> None:
        """Upscale a file; its outcome is among what is reported."""
        source, output = [str(task.source)], str(task.output)
        if isinstance(task.options, VideoOptions):
            upscale_videos(source, output, task.options, on_event=report, enhancers=self._enhancers)
        else:
            upscale_pictures(source, output, task.options, on_event=report, enhancers=self._enhancers)
