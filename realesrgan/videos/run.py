"""`upscale_videos`: everything that the video script does, for programs."""
from __future__ import annotations

import logging
import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import RunError, UsageError, VideoError, explain
from ..events import Event, Examined, Found, Outcome, Outlined, Progress, Run, Warned
from ..ffmpeg.probe import MediaInfo, is_picture, probe
from ..ffmpeg.programs import FFmpeg, find_ffmpeg
from ..files import remove_leftovers, require_writable, temporary_folder
from ..log import about
from ..options import PictureOptions, VideoOptions, convert_options, drop_faces_of_anime
from ..pictures.inputs import InputFile, Inputs, list_inputs
from ..pictures.names import name_comparison, plan, require_folder_name
from ..pictures.run import upscale_pictures
from ..workers.enhancers import EnhancerCache
from ..workers.sharing import run_sharing
from .checkpoint import get_parts_folder
from .inputs import VIDEO_EXTENSIONS, VideoInput, check_extension, find_videos, name_results
from .resources import Resources
from .source import FrameSource, Source, VideoSource

if TYPE_CHECKING:
    from .upscale import Made

logger = logging.getLogger(__name__)


def upscale_videos(inputs: Inputs, output: str | os.PathLike[str], options: VideoOptions | None = None, *,
                   on_event: Callable[[Event], None] | None = None,
                   cancel: threading.Event | None = None,
                   enhancers: EnhancerCache | None = None) -> list[Outcome]:
    """Upscale videos, in order; one that begins may share the workers with the one before it.

    One that fails does not hold up the others.

    When a run ends early, the parts that are finished stay, and the same call goes on from them.

    Args:
        inputs: Videos, URLs, pipes, folders (of frames, or of videos), pictures and glob patterns, one or several.
        output: Folder for the results.
        options: How; None for the defaults.
        on_event: Called in this thread: with `Found` once, with `Progress` and `Warned`, and for each input with
            `Outcome`, or in a dry run with `Outlined`. What it raises ends the run.
        cancel: Ends the run, after the current frame, when it is set.
        enhancers: Upsamplers of earlier calls, and of this one afterwards; the videos are upscaled in this process.

    Returns:
        The outcome of each input; none in a dry run. Errors are in there, a line each (`errors.flatten_message`).

    Raises:
        UsageError: a video is to become a picture, or a picture a video, or `output` looks like a file.
        MediaError: ffmpeg is not found.
        WeightsError, DeviceError, EngineError, FacePackagesError: no worker can be built.
        DiskFullError: the disk has too little room.
        OSError: the output folder can't be written.
        Cancelled: `cancel` was set.
    """
    run = Run(on_event, cancel)
    with run.session(), ExitStack() as stack:
        return _Videos(run, Path(output), options or VideoOptions(), stack, enhancers).upscale(list_inputs(inputs))


class _Videos:
    """One run over videos; what it opens lives until the stack ends."""

    def __init__(self, run: Run, output: Path, options: VideoOptions, stack: ExitStack,
                 enhancers: EnhancerCache | None) -> None:
        self._run = run
        self._enhancers = enhancers
        self._output = output
        self._options = drop_faces_of_anime(options)
        self._stack = stack
        self._outcomes: list[Outcome] = []
        self._copies: list[Path] = []  # folders of what can be read once only
        stack.callback(self._remove_copies)
        self._ffmpeg: FFmpeg = find_ffmpeg(options.ffmpeg_bin)
        self._sources: frozenset[str]  # real paths of all inputs, which are never written to
        self._resources: Resources

    def upscale(self, inputs: Sequence[str]) -> list[Outcome]:
        require_folder_name(self._output, VIDEO_EXTENSIONS)
        require_writable(self._output)
        remove_leftovers(self._output)
        found = find_videos(self._ffmpeg, inputs, lambda name, error: self._end(Outcome(name, error=error)),
                            self._run.check)
        pictures = [video for video in found if video.picture]
        videos = [video for video in found if not video.picture]
        for video in found:
            check_extension(self._options.ext, video)
        self._sources = frozenset(os.path.realpath(video.source) for video in found)
        targets = name_results(videos, self._output, self._options.suffix, self._options.container)
        waiting = [(video, target) for video, target in zip(videos, targets, strict=True)
                   if not self._skip(video, target)]
        self._resources = Resources(self._options, self._output, [video for video, _ in waiting],
                                    self._ffmpeg.version, self._run.check, self._stack, self._enhancers)
        self._run.tell(Found(len(pictures) + len(waiting)))
        if pictures:
            self._upscale_pictures([picture.source for picture in pictures])
        pool = self._resources.find_shareable_pool() if len(waiting) > 1 else None
        pieces = [partial(self._upscale_waiting, video, target) for video, target in waiting]
        if pool is not None:
            run_sharing(pieces, pool, self._run.stop)
        else:
            for upscale in pieces:
                upscale()
        return self._outcomes

    def _upscale_waiting(self, video: VideoInput, target: Path) -> None:
        with about(video.source):
            outcome = self._upscale_one(video, target)
        if outcome is not None:
            self._end(outcome)

    def _remove_copies(self) -> None:
        """Remove what a thread may still be waiting to write."""
        for folder in self._copies:
            shutil.rmtree(folder, ignore_errors=True)

    def _end(self, outcome: Outcome) -> None:
        self._outcomes.append(outcome)
        self._run.tell(outcome)

    def _skip(self, video: VideoInput, target: Path) -> bool:
        """Report a video as skipped if its result exists and that matters."""
        skipped = self._options.skip_existing and os.path.exists(target)
        if skipped:
            self._end(Outcome(video.source, target, skipped=True))
            if get_parts_folder(target).exists() and not self._options.keep_parts:
                logger.warning('%s: %s is left over from it, and may be deleted', target, get_parts_folder(target))
        return skipped

    def _upscale_one(self, video: VideoInput, target: Path) -> Outcome | None:
        """Return how a video ended; None in a dry run."""
        start = time.perf_counter()
        try:
            with self._readable(video, target) as (info, options):
                source = self._open(video, info, target, options)
                if options.dry_run:
                    self._outline(source, target, options)
                    return None
                made = self._upscale_source(source, target, options)
        except RunError:
            raise
        except Exception as error:
            return Outcome(video.source, error=explain(error), seconds=time.perf_counter() - start)
        return Outcome(video.source, target, problems=made.problems, frames=made.frames, reused=made.reused,
                       seconds=time.perf_counter() - start, size=source.size,
                       result_size=(source.encoding.width, source.encoding.height), effort=made.effort,
                       comparison=made.comparison)

    @contextmanager
    def _readable(self, video: VideoInput, target: Path) -> Iterator[tuple[MediaInfo | None, VideoOptions]]:
        """Yield what to open and how; of what can be read once only a copy, because it is read twice."""
        options = replace(self._options, outscale=self._resources.outscale)
        if not video.is_pipe:
            yield video.info, options
            return
        if options.dry_run:
            raise UsageError(f'{video.source}: --dry_run would use up what can be read once only; give a file')
        logger.info('%s: copied to a file first; the run can\'t be resumed', video.source)
        with temporary_folder(target) as folder:
            self._copies.append(folder)
            copy = folder / Path(video.source).name
            with Path(video.source).open('rb') as pipe, copy.open('wb') as file:
                shutil.copyfileobj(pipe, file)
            info = probe(self._ffmpeg, str(copy), self._run.check)
            if is_picture(self._ffmpeg, info, self._run.check):
                raise VideoError(f'{video.source}: holds a single picture; inference_realesrgan.py -i - takes those')
            yield info, replace(options, chunk=Fraction(0), restart=True)

    def _open(self, video: VideoInput, info: MediaInfo | None, target: Path, options: VideoOptions) -> Source:
        """Return the source of an input.

        Raises:
            VideoError: its result would overwrite an input, or it can't be upscaled as asked.
        """
        for path in (target, name_comparison(target, 'mp4'))[:1 + options.compare]:
            if os.path.realpath(path) in self._sources:
                raise VideoError(f'its result would overwrite the input {path}; choose another --suffix or -o')
        if info is None:
            for name in ('start', 'end'):
                if getattr(options, name) is not None:
                    logger.warning('--%s has no effect on a folder of frames', name)
            return FrameSource(self._ffmpeg, video.source, video.frames, options, self._run.check)
        return VideoSource(self._ffmpeg, video.source, info, options, self._run.check)

    # ---- one input ----

    def _upscale_source(self, source: Source, target: Path, options: VideoOptions) -> Made:
        from .upscale import upscale_source
        common = self._resources
        return upscale_source(source, target, options, common.weights, common.pool, self._run)

    def _outline(self, source: Source, target: Path, options: VideoOptions) -> None:
        from .checkpoint import describe_run, find_reusable
        from .dry_run import outline_run
        common = self._resources
        manifest = describe_run(source.ffmpeg.version, source.identify(), common.weights, options)
        there = [] if options.restart else find_reusable(target, source.encoding.container, manifest)
        lines = outline_run(source, target, common.outscale, common.places, common.enhancer, there)
        self._run.tell(Outlined(source.name, tuple(lines)))

    def _upscale_pictures(self, sources: Sequence[str]) -> None:
        """Upscale single pictures as the image script does."""
        options = self._options
        if options.dry_run:
            for job in plan([InputFile(Path(source)) for source in sources], self._output, options.suffix,
                            options.ext):
                self._run.tell(Outlined(str(job.source), (f'result   {job.target(alpha=False)}, a single picture',)))
            return

        def hear(event: Event) -> None:
            if isinstance(event, (Examined, Progress, Warned)):
                self._run.tell(event)
            elif isinstance(event, Outcome):
                self._end(event)
        upscale_pictures(sources, str(self._output), convert_options(options, PictureOptions), on_event=hear,
                         cancel=self._run.cancel, enhancers=self._enhancers)
