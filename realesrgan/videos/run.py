"""`upscale_videos`: everything that the video script does, for programs."""
from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

from ..enhancers import EnhancerCache, build_enhancer, count_workers, find_outscale, prepare
from ..errors import RunError, UsageError, VideoError, explain
from ..events import Event, Examined, Found, Outcome, Outlined, Progress, Run, Warned
from ..ffmpeg.programs import FFmpeg, find_ffmpeg
from ..files import remove_leftovers
from ..log import about, append_log
from ..options import PictureOptions, VideoOptions, convert_options, drop_faces_of_anime
from ..pictures.inputs import VIDEO_EXTENSIONS, InputFile, Inputs, list_inputs
from ..pictures.names import list_jobs, name_comparison, name_preview, require_folder_name, require_output_folder
from ..pictures.run import upscale_pictures
from ..pipeline import read_ahead, write_behind
from ..pool.pool import list_places, make_pool
from ..version import __version__
from ..weights.sources import fingerprint
from .inputs import (
    VideoInput,
    as_animation,
    check_extension,
    choose_container,
    find_videos,
    name_results,
)
from .job import VideoJob
from .parts import estimate_result_size, find_reusable, get_parts_folder
from .steady import RADIUS
from .worker import Chunk, judge_frames

logger = logging.getLogger(__name__)

_MEASURED = 2  # frames of a preview whose flicker is measured, each against the one before it


def upscale_videos(inputs: Inputs, output: str | os.PathLike[str], options: VideoOptions | None = None, *,
                   on_event: Callable[[Event], None] | None = None,
                   cancel: threading.Event | None = None,
                   enhancers: EnhancerCache | None = None) -> list[Outcome]:
    """Upscale videos, in order; while workers compute one, the next is planned and the one before is joined.

    One that fails does not stop the others.

    If a run ends early, finished parts stay, and the same call resumes from them.

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
        UsageError: a video is to become a picture, or a picture a video; or `output` looks like a file, or can't be
            written.
        MediaError: ffmpeg is not found.
        WeightsError, DeviceError, EngineError, FacePackagesError: no worker can be built.
        DiskFullError: the disk has too little room.
        Cancelled: `cancel` was set.
    """
    run, options = Run(on_event, cancel), options or VideoOptions()
    with append_log(options.log), run.session():
        logger.debug('Real-ESRGAN %s, %s', __version__, options)
        return _Videos(run, Path(output), options, enhancers).upscale(list_inputs(inputs))


class _Videos:
    """One run over videos."""

    def __init__(self, run: Run, output: Path, options: VideoOptions, enhancers: EnhancerCache | None) -> None:
        self._run = run
        self._output = output
        self._options = drop_faces_of_anime(options)
        self._enhancers = enhancers
        self._ffmpeg: FFmpeg = find_ffmpeg(options.ffmpeg_bin)
        self._places = list_places(options.gpu_id)  # of the workers, but on a cluster; several may share each
        self._sources: set[str] = set()  # real paths of all inputs, which are never written to
        self._weights = ''  # their fingerprint
        self._jobs: dict[str, VideoJob] = {}  # by the input
        self._outcomes: list[Outcome] = []

    def upscale(self, inputs: Sequence[str]) -> list[Outcome]:
        options = self._options
        require_folder_name(self._output, VIDEO_EXTENSIONS)
        if str(self._output) == '-':
            raise UsageError('-o -: a video can\'t go to stdout; name a folder')
        require_output_folder(self._output)
        remove_leftovers(self._output)
        found = find_videos(self._ffmpeg, inputs, lambda name, error: self._end(Outcome(name, error=error)),
                            self._run.check)
        found = [as_animation(video, options.ext) for video in found]
        for video in found:
            check_extension(options.ext, video)
            if (options.dry_run or options.preview) and video.is_pipe:
                name = '--dry_run' if options.dry_run else '--preview'
                raise UsageError(f'{video.source}: {name} would use up what can be read once only; give a file')
        self._sources = {os.path.realpath(video.source) for video in found}
        pictures = [video.source for video in found if video.picture]
        videos = [video for video in found if not video.picture]
        targets = name_results(videos, self._output, options.suffix, options.ext)
        waiting = [(video, target) for video, target in zip(videos, targets, strict=True)
                   if not self._skip(video, target)]
        self._run.emit(Found(len(pictures) + len(waiting)))
        if pictures:
            self._upscale_pictures(pictures)
        if waiting and options.preview:
            if options.find_size(1, 1) is None:
                self._options = options.replace(outscale=options.outscale or find_outscale(options))
            self._preview(waiting)
        elif waiting:
            prepare(options)
            self._places = list_places(options.gpu_id, count_workers(options))
            self._weights = fingerprint(options.model_name, options.model_path, options.denoise_strength)
            if options.find_size(1, 1) is None:
                self._options = options.replace(outscale=options.outscale or find_outscale(options))
            if options.dry_run:
                self._outline(waiting)
            else:
                self._upscale_videos(waiting)
        return self._outcomes

    def _skip(self, video: VideoInput, target: Path) -> bool:
        """Report a video as skipped if its result exists and that matters."""
        skipped = self._options.skip_existing and os.path.exists(target)
        if skipped:
            self._end(Outcome(video.source, target, skipped=True))
            if get_parts_folder(target).exists() and not self._options.keep_parts:
                logger.warning('%s: %s is left over from it, and may be deleted', target, get_parts_folder(target))
        return skipped

    def _end(self, outcome: Outcome) -> None:
        self._outcomes.append(outcome)
        self._run.emit(outcome)

    # ---- videos ----

    def _upscale_videos(self, waiting: Sequence[tuple[VideoInput, Path]]) -> None:
        """Upscale videos as one stream of chunks."""
        with ExitStack() as stack:
            stack.callback(self._close)  # last, when nobody writes any more
            pool = stack.enter_context(self._open_pool(waiting))
            behind = stack.enter_context(write_behind(self._finish, len(waiting), stop=self._run.stop))

            def plan_chunks() -> Iterator[Chunk]:
                for video, target in waiting:
                    job = self._make_job(video, target)
                    with self._failing_alone(job):
                        self._require_new(target)
                        job.begin()
                    if not job.is_closed and not job.todo:
                        behind.put(job)
                    yield from job.todo

            chunks = stack.enter_context(read_ahead(
                plan_chunks(), 1, stop=self._run.stop, check=self._run.check))
            for chunk, result in pool.map_unordered(
                    chunks, lambda chunk, note: self._jobs[chunk.video].on_note(chunk, note),
                    lambda chunk: not self._jobs[chunk.video].is_closed):
                job = self._jobs[chunk.video]
                if job.is_closed:
                    continue
                if isinstance(result, Exception):
                    self._fail(job, result)
                elif job.add(chunk, result):
                    behind.put(job)
        self._run.check()  # for an error of the last ones to be joined

    def _open_pool(self, waiting: Sequence[tuple[VideoInput, Path]]) -> Any:
        """Return the workers, `ChunkWorker` each; on a cluster they find their own ffmpeg."""
        from .worker import ChunkWorker, explain_other_ffmpeg
        options, check = self._options, self._run.check
        if options.cluster is not None:
            from ..pool.cluster import open_ray_pool
            files = [path for video, _ in waiting for path in video.frames or [Path(video.source)] if path.is_file()]
            return open_ray_pool(partial(ChunkWorker, options, finds_ffmpeg=True), options, files, self._output, check,
                                 partial(explain_other_ffmpeg, options.ffmpeg_bin, self._ffmpeg.version))
        from ..engines.choice import list_gpus
        if self._enhancers is not None:
            return make_pool(partial(ChunkWorker, options, build=self._enhancers.build), self._places[:1], check,
                             isolate=False)
        return make_pool(partial(ChunkWorker, options), self._places, check, isolate=bool(list_gpus(options.engine)))

    def _make_job(self, video: VideoInput, target: Path) -> VideoJob:
        options = self._options.replace(ext=choose_container(video, self._options.ext))
        job = VideoJob(video, target, self._ffmpeg, options, self._weights, self._run)
        self._jobs[video.source] = job
        return job

    @contextmanager
    def _failing_alone(self, job: VideoJob) -> Iterator[None]:
        """Let a video fail with an error of the block, unless no other video would fare better."""
        with about(job.name):
            try:
                yield
            except RunError:
                raise
            except Exception as error:
                self._fail(job, error)

    def _require_new(self, target: Path) -> None:
        """Check that the result of a video overwrites no input.

        Raises:
            VideoError: it would.
        """
        for path in (target, name_comparison(target, 'mp4'))[:1 + self._options.compare]:
            if os.path.realpath(path) in self._sources:
                raise VideoError(f'its result would overwrite the input {path}; choose another --suffix or -o')

    def _finish(self, job: VideoJob) -> None:
        """Join a video, in the writing thread."""
        try:
            with self._failing_alone(job):
                self._end(job.finish())
        except RunError as error:
            self._run.stop(error)

    def _fail(self, job: VideoJob, error: Exception) -> None:
        with about(job.name):
            job.fail()
        self._end(Outcome(job.name, error=explain(error), seconds=job.seconds))

    def _close(self) -> None:
        """Close the videos that an early end has left open."""
        for job in self._jobs.values():
            with about(job.name):
                job.fail()

    # ---- other work ----

    def _outline(self, waiting: Sequence[tuple[VideoInput, Path]]) -> None:
        """Find out what a run would do and need."""
        from .dry_run import outline_run
        enhancer = build_enhancer(self._options, self._places[0])
        for video, target in waiting:
            job = self._make_job(video, target)
            with self._failing_alone(job):
                self._require_new(target)
                job.open()
                there = [] if self._options.restart else find_reusable(
                    target, job.source.encoding.container, job.describe())
                lines = outline_run(job.source, target, self._options.outscale, self._places, enhancer, there,
                                    steady=self._options.steady)
                self._run.emit(Outlined(video.source, tuple(lines)))

    def _preview(self, waiting: Sequence[tuple[VideoInput, Path]]) -> None:
        """Show a part of a frame of each video, by each model, and what the whole would take."""
        from ..quality.previews import Amount, compare_models
        options, enhancers = self._options, self._enhancers or EnhancerCache(max(len(self._options.models), 1))
        for video, target in waiting:
            job, sheet = self._make_job(video, target), name_preview(target, 'jpg')
            with self._failing_alone(job):
                if os.path.realpath(sheet) in self._sources:
                    raise VideoError(f'its preview would overwrite the input {sheet}; choose another --suffix or -o')
                job.open()
                source, encoding = job.source, job.source.encoding
                first = 0 if options.start is not None or source.total is None else source.total // 2
                radius = RADIUS if options.steady else 0
                with closing(source.sample(max(first - radius, 0))) as frames:
                    before = list(islice(frames, min(first, radius)))
                    frame = next(frames, None)
                    if frame is None:
                        raise VideoError('no preview: it can be read once only, or has no frame')
                    counts = source.total or 0
                    amount = Amount(frame.shape[0] * frame.shape[1] / 1e6, counts,
                                    estimate_result_size(encoding, counts), len(set(self._places)))
                    found = compare_models(
                        frame, options, amount, before=before, after=islice(frames, _MEASURED + radius),
                        judge=partial(judge_frames, shown=len(before), stop=len(before) + _MEASURED + 1,
                                      steady=options.steady), build=enhancers.build, check=self._run.check)
                self._run.emit(found.write(sheet, video.source, f'preview  {sheet}, frame {first + 1} of '
                                           f'{source.total or "an unknown number"}'))
                job.close(keep=True)

    def _upscale_pictures(self, sources: Sequence[str]) -> None:
        """Upscale single pictures as the image script does."""
        options = self._options
        if options.dry_run:
            files = [InputFile(Path(source)) for source in sources]
            for job in list_jobs(files, self._output, options.suffix, options.ext):
                self._run.emit(Outlined(str(job.source), (f'result   {job.target(alpha=False)}, a single picture',)))
            return

        def on_event(event: Event) -> None:
            if isinstance(event, (Examined, Outlined, Progress, Warned)):
                self._run.emit(event)
            elif isinstance(event, Outcome):
                self._end(event)
        upscale_pictures(sources, self._output, convert_options(options, PictureOptions), on_event=on_event,
                         cancel=self._run.cancel, enhancers=self._enhancers)
