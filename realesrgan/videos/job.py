"""One video on its way to its result: begun, upscaled chunk by chunk, finished."""
from __future__ import annotations

import functools
import logging
import operator
import shutil
import sys
import time
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import replace
from fractions import Fraction
from itertools import chain, islice, pairwise
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import MediaError, MediaWriteError, PartsError, VideoError, flatten_message
from ..events import Examined, FilmFlicker, Finding, Outcome, Progress, Run
from ..ffmpeg.containers import CONTAINERS, Track, plan_tracks
from ..ffmpeg.decoder import Decoding, FrameReader
from ..ffmpeg.encoder import FrameWriter
from ..ffmpeg.mux import join, mux, write_list
from ..ffmpeg.probe import MediaInfo, is_picture, probe
from ..ffmpeg.programs import Check, FFmpeg
from ..files import (
    errors_naming,
    format_size,
    keep_dates,
    measure_free_disk,
    temporary_folder,
    whole_file,
    write_through,
)
from ..options import VideoOptions
from ..pictures.names import name_comparison
from ..quality.checks import sum_up
from ..quality.comparisons import convert_to_bgr8, enlarge, put_side_by_side
from .animations import Animation, read_animation, write_animation
from .frames import VideoFrames
from .inputs import VideoInput, probe_animation
from .parts import LIST, TRACKS, OpenParts, Part, Parts, check_room, count, describe_run, estimate_result_size
from .plan import VideoPlan
from .source import Source
from .steady import Flicker
from .worker import Chunk, Upscaled

logger = logging.getLogger(__name__)

#: Between two looks at the disk.
SECONDS_BETWEEN_LOOKS = 1.0
#: How many frames of a video are compared with their sources, and which ones where their number is unknown.
_SAMPLES = 12
_FRAMES_OF_A_SAMPLE = 12  # at least, unless a report is asked for: so few cost the network less than 1 % of its time
_OF_UNKNOWN = (0, 24, 240, 2400)
#: How many of the seconds that flicker most are named.
_WORST_SECONDS = 3
_LEAST_GIF_DELAY = Fraction(1, 50)  # seconds; viewers show shorter ones for a tenth
#: Of a comparison: its length, and the rows and columns in the middle of larger frames.
_COMPARED_SECONDS, _LARGEST_PANEL = 5, (1080, 1920)


class VideoJob:
    """A video to upscale. Its result is written whole or not at all.

    A damaged source gives whatever could be decoded of it, and a problem. If the job fails, finished parts stay, the
    same command resumes from them, and a warning says so.

    Args:
        video: The input.
        target: The file of the result.
        ffmpeg: The programs.
        options: The caller's, with a final size.
        weights: Fingerprint of the weights.
        run: Takes events, and ends the run.

    Attributes:
        name: The input as it was given.
        todo: The chunks that have not all of their parts yet, after `begin`.
        is_closed: Whether it has finished, or failed.
    """

    def __init__(self, video: VideoInput, target: Path, ffmpeg: FFmpeg, options: VideoOptions, weights: str,
                 run: Run) -> None:
        self.name = video.source
        self._video, self._target, self._ffmpeg, self._options = video, target, ffmpeg, options
        self._weights, self._run = weights, run
        self._start = time.perf_counter()
        self._waits_since: float | None = None  # for a worker
        self._stack = ExitStack()  # files that are removed in the end
        self._opened: OpenParts | None = None
        self._next_look = 0.0  # at the disk
        self._identity: Mapping[str, Any] = {}
        self._chunks: list[Chunk] = []
        self._found: dict[int, list[Part]] = {}  # by an earlier run, of each chunk
        self._reused = 0  # frames in them
        self._frames: dict[int, int] = {}  # upscaled so far, of each chunk
        self._done: dict[int, Upscaled] = {}
        self._findings: dict[int | None, Sequence[Finding]] = {}  # in the frames that were looked at
        self.source: Source
        self.todo: list[Chunk] = []
        self.is_closed = False

    @property
    def seconds(self) -> float:
        """Since it was made, without the wait for a worker, which may be busy with another video."""
        return time.perf_counter() - self._start

    def open(self) -> None:
        """Find out how the input is read. Of a pipe only a copy is, because it is read twice.

        Raises:
            VideoError, MediaError, FrameError: it can't be upscaled as asked.
        """
        video, check = self._video, self._run.check
        info, path, kind = video.info, Path(self.name), video.animation
        if video.is_pipe:
            logger.info('%s: copied to a file first; the run can\'t be resumed', self.name)
            path = self._stack.enter_context(temporary_folder(self._target)) / path.name
            with Path(self.name).open('rb') as pipe, path.open('wb') as file:
                shutil.copyfileobj(pipe, file)
            if not path.stat().st_size:
                raise VideoError(f'{self.name}: nothing came from it')
            info, kind = probe_animation(self._ffmpeg, path, check)
            if info is not None and not kind and is_picture(self._ffmpeg, info, check):
                raise VideoError(f'{self.name}: holds a single picture; inference_realesrgan.py -i - takes those')
            self._options = self._options.replace(chunk=Fraction(0), restart=True)
        given: MediaInfo | Animation | Sequence[Path] = info or video.frames
        if kind:  # to films, GIF and PNG go by ffmpeg, which can't say whether they have transparency
            animation = read_animation(self._ffmpeg, path, info, self._options.max_pixels, check)
            if info is None or info.video is None or CONTAINERS[self._options.container].is_animation:
                given = animation
            else:
                given = replace(info, video=replace(info.video, alpha=animation.alpha))
        self.source = Source(self._ffmpeg, self.name, given, self._options, check)

    def describe(self) -> dict[str, Any]:
        """Return everything that its parts depend on; the input is looked at for it."""
        self._identity = self.source.identify()
        return describe_run(self._ffmpeg.version, self._identity, self._weights, self._options)

    def begin(self) -> None:
        """Cut the input into chunks, and find the parts that are there.

        Raises:
            PartsError: another run has them open, or they are of another run.
            MediaError, OSError, DiskFullError: see the message.
        """
        self.open()
        source, options = self.source, self._options
        self._opened = OpenParts(self._target, source.encoding.container, self.describe(), restart=options.restart)
        parts = self._opened.parts
        _warn_of_little_room(source, parts.folder)
        self._chunks = source.make_chunks(parts, self._stack)
        self._find_parts(parts)
        if not options.no_check:
            most = _SAMPLES if options.check or source.total is None else -(-source.total // _FRAMES_OF_A_SAMPLE)
            self._chunks = _choose_samples(self._chunks, source.total, min(most, _SAMPLES))
        self._frames = {index: sum(part.frames for part in there) for index, there in self._found.items()}
        self._reused = sum(self._frames.values())
        if there := parts.describe():
            logger.info('reusing %s of an earlier run', there)
        self._done = {chunk.index: Upscaled(tuple(found), found[-1].damage)
                      for chunk in self._chunks if chunk.is_done(found := self._found[chunk.index])}
        self.todo = [chunk for chunk in self._chunks if chunk.index not in self._done]
        self._emit_progress()
        self._waits_since = time.perf_counter()

    def on_note(self, chunk: Chunk, note: Any) -> None:
        """Take what a worker reports of a chunk: its number of upscaled frames, or a frame that was examined."""
        if self._waits_since is not None:
            self._start += time.perf_counter() - self._waits_since
            self._waits_since = None
        if isinstance(note, Examined):
            self._findings[note.frame] = note.quality.findings
            if self._options.check:
                self._run.emit(note)
        else:
            self._frames[chunk.index] = note
            self._emit_progress()
            if time.monotonic() >= self._next_look:
                self._next_look = time.monotonic() + SECONDS_BETWEEN_LOOKS
                check_room(chunk.parts.folder)

    def add(self, chunk: Chunk, upscaled: Upscaled) -> bool:
        """Take the result of a chunk; tell whether all are there."""
        self._done[chunk.index] = upscaled
        self.on_note(chunk, upscaled.frames)
        return len(self._done) == len(self._chunks)

    def finish(self) -> Outcome:
        """Join the parts to the result.

        Raises:
            VideoError, MediaError, PartsError, DiskFullError: see the message.
            OSError: the result can't be written.
        """
        assert self._opened is not None, 'begin() comes first'
        source, parts, target, options = self.source, self._opened.parts, self._target, self._options
        done = [self._done[chunk.index] for chunk in self._chunks]
        made = [part for chunk, upscaled in zip(self._chunks, done, strict=True)
                for part in upscaled.parts if part not in self._found[chunk.index]]
        identity = source.identify()
        if any(identity.get(name) != self._identity.get(name) for name in ('source', 'bytes', 'content')):
            for part in made:  # it may show another video than the manifest names
                parts.path(part.first).unlink()
            raise VideoError(f'{self.name}: changed while it was upscaled; give the command again')
        comparison = self._compare(done) if options.compare else None
        for part in made:
            self._run.check()
            if not parts.is_intact(part.first):
                raise PartsError(f'{parts.path(part.first)}: damaged since it was written, so the disk may be failing; '
                                 'the same command makes it again')
        problems = source.find_damage(self._chunks, done)
        problems += self._join(parts, done)
        self.close(keep=options.keep_parts)
        total = sum(upscaled.frames for upscaled in done)
        reused = total - sum(part.frames for part in made) + sum(upscaled.reused for upscaled in done)
        logger.debug('%d frames computed', sum(upscaled.computed for upscaled in done))
        timings = [upscaled.timings for upscaled in done if upscaled.timings]
        flicker = _sum_up_flicker([part for upscaled in done for part in upscaled.parts], steadied=options.steady)
        return Outcome(self.name, target, problems=tuple(problems), frames=total, reused=reused, seconds=self.seconds,
                       size=source.size, result_size=(source.encoding.width, source.encoding.height),
                       timings=functools.reduce(operator.add, timings) if timings else None, comparison=comparison,
                       flicker=flicker,
                       verdict=sum_up(chain(*self._findings.values())) if self._findings else None)

    def fail(self) -> None:
        """Warn of how many frames are lost and what is kept, and close."""
        if self.is_closed:
            return
        if self._opened is not None and self._chunks:
            parts = self._opened.parts
            kept = parts.describe()
            lost = sum(self._frames.values()) - sum(part.frames for part in parts.find()) - len(parts.list_frames())
            if kept:
                command = 'the same command without --restart' if self._options.restart else 'the same command'
                logger.warning('%s lost, %s kept; %s resumes', count(max(lost, 0), 'frame'), kept, command)
            elif lost > 0:
                logger.warning('%s lost, no part was finished', count(lost, 'frame'))
        self.close(keep=True)

    def close(self, *, keep: bool) -> None:
        """Let go of all files; the parts go too, unless they are to be kept."""
        self.is_closed = True
        self._stack.close()
        if self._opened is not None:
            self._opened.close(keep=keep)

    def _emit_progress(self) -> None:
        self._run.emit(Progress(self.name, sum(self._frames.values()), self.source.total, self._reused))

    def _find_parts(self, parts: Parts) -> None:
        """Find the parts of each chunk that an earlier run has finished; damaged ones don't count."""
        self._found = {chunk.index: [] for chunk in self._chunks}
        firsts = [chunk.first for chunk in self._chunks]
        frames = parts.list_frames()
        for part in parts.find():
            self._run.check()
            if parts.is_intact(part.first):
                self._found[self._chunks[bisect_right(firsts, part.first) - 1].index].append(part)
                if any(part.first <= frame < part.stop for frame in frames):  # a kill came before they were removed
                    parts.drop_frames(part.first, part.stop)
            else:
                logger.warning('%s: damaged since it was written; it is made again', parts.path(part.first))
                parts.path(part.first).unlink()

    def _join(self, parts: Parts, done: Sequence[Upscaled]) -> list[str]:
        """Write the result, whole or not at all, and return what it lacks, a line each."""
        source, target, plan = self.source, self._target, self.source.plan
        files = [(parts.path(part.first), part.frames) for upscaled in done for part in upscaled.parts]
        check_room(parts.folder, sum(path.stat().st_size for path, _ in files),
                   f'{target.name}, which the parts are joined to')
        write_list(parts.folder / LIST, files, source.encoding.rate)
        recorded = parts.folder / TRACKS if (parts.folder / TRACKS).exists() else None
        with temporary_folder(parts.folder / 'whole') as folder:
            whole, problems = folder / f'whole{target.suffix}', []
            if CONTAINERS[self._options.container].is_animation:
                self._write_animation(done, whole)
            elif plan is None or (plan.info.is_stream and recorded is None):  # there are no other tracks
                join(self._ffmpeg, parts.folder / LIST, whole, self._options.container, self._run.check)
            else:
                problems = self._join_with_tracks(plan, recorded, parts.folder / LIST, whole)
            with errors_naming(target, whole):
                write_through(whole)  # before the parts go
                if self._options.keep_dates:
                    keep_dates(self._video.frames or [Path(self.name)], whole)
                whole.replace(target)
        return problems

    def _write_animation(self, done: Sequence[Upscaled], whole: Path) -> None:
        """Write the frames of the parts as an animated picture."""
        assert self._opened is not None, 'begin() comes first'
        source, container, check = self.source, self._options.container, self._run.check
        total, animation = sum(upscaled.frames for upscaled in done), source.animation
        if source.plan is not None:
            plan_tracks(source.plan.info.tracks, container)  # which warns of each that is left out
        times = animation.times if animation else [number / source.encoding.rate for number in range(total + 1)]
        if container == 'gif' and any(after - before < _LEAST_GIF_DELAY for before, after in pairwise(times)) and (
                animation is None or animation.container != 'gif'):
            logger.warning('has frames of less than 0.02 s, which most viewers show for 0.1 s if they are in a gif; '
                           '--fps 50 avoids that, or --ext webp')

        def read() -> Iterator[np.ndarray]:
            for chunk, upscaled in zip(self._chunks, done, strict=True):
                yield from _read_parts(chunk, upscaled, check)
        write_animation(self._ffmpeg, self._opened.parts.folder / LIST, read, whole, container, times[:total + 1],
                        alpha=source.encoding.alpha, plays=animation.plays if animation else 0,
                        profile=animation.profile if animation else None,
                        lossless=animation is not None and animation.lossless, check=check)

    def _join_with_tracks(self, plan: VideoPlan, recorded: Path | None, video: Path, whole: Path) -> list[str]:
        """Join the parts of a list with the tracks of the source; return a line for each that can't be carried.

        The tracks of a source that can be read once only were `recorded` while it was decoded.
        """
        source, start, container, check = plan.info, plan.video_start, self._options.container, self._run.check

        def carry(tracks: Sequence[Track]) -> MediaError | None:
            """Join the parts with some of the tracks; return what went wrong."""
            try:
                mux(self._ffmpeg, video, replace(source, tracks=tuple(tracks)), whole, container, video_start=start,
                    cut=plan.cut, tags_of=plan.video, leave_gaps=plan.stamps is not None, check=check)
            except MediaWriteError:
                raise
            except MediaError as error:
                return error
            return None

        error: MediaError | None = None
        if recorded is not None:
            try:
                source = probe(self._ffmpeg, str(recorded))
                start -= source.start  # the recording keeps the clock of the pass that made it
            except MediaError as failure:
                source, error = replace(source, tracks=()), failure
        error = error or carry(source.tracks)
        if error is None:
            return []
        errors = {track: carry([track]) for track in source.tracks}  # which of them is it?
        kept = [track for track, failure in errors.items() if failure is None]
        if kept and carry(kept) is None:
            return [f'{plan.info.source}: {track} could not be carried and is left out: {failure}'
                    for track, failure in errors.items() if failure is not None]
        whole.unlink(missing_ok=True)
        join(self._ffmpeg, video, whole, container, check)
        return [f'{plan.info.source}: its other tracks could not be carried, the video alone is kept: {error}']

    def _compare(self, done: Sequence[Upscaled]) -> Path | None:
        """Write a comparison, or warn of why there is none."""
        comparison = name_comparison(self._target, 'mp4')
        try:
            _write_comparison(self._chunks, done, comparison, self._options.label, self._run.check)
        except (MediaError, VideoError) as error:
            logger.warning('%s', flatten_message(error))
            return None
        return comparison


def _sum_up_flicker(parts: Sequence[Part], *, steadied: bool) -> FilmFlicker | None:
    """Return the flicker of a film; None if nothing in it stands still."""
    seconds = defaultdict[int, Flicker](Flicker)
    for part in parts:
        for second, values in part.flicker:
            seconds[second] += Flicker(*values)
    average = sum(seconds.values(), Flicker()).average(steadied=steadied)
    written = {second: measured.steadied / measured.share for second, measured in seconds.items() if measured.average()}
    worst = sorted(written, key=written.__getitem__, reverse=True)[:_WORST_SECONDS]
    return average and average._replace(worst=tuple(worst))


def _choose_samples(chunks: Sequence[Chunk], total: int | None, count: int) -> list[Chunk]:
    """Return the chunks with the frames that are compared with their sources, spread evenly over the video."""
    samples = [round((number + 0.5) * total / count - 0.5) for number in range(count)] if total else _OF_UNKNOWN
    stops = [chunk.first for chunk in chunks[1:]] + [sys.maxsize]
    return [replace(chunk, samples=frozenset(sample - chunk.first for sample in samples
                                             if chunk.first <= sample < stop))
            for chunk, stop in zip(chunks, stops, strict=True)]


def _warn_of_little_room(source: Source, folder: Path) -> None:
    """Warn if the disk seems too small for the parts, the result made of them, and extracted frames."""
    if source.total is None:
        return
    needed = 2 * estimate_result_size(source.encoding, source.total) + source.extracted_bytes
    free = measure_free_disk(folder)
    if needed > free:
        logger.warning('about %s of disk will be needed, %s are free', format_size(needed), format_size(free))


# ---- a comparison ----

def _write_comparison(chunks: Sequence[Chunk], done: Sequence[Upscaled], target: Path, label: str,
                     check: Check) -> None:
    """Write a clip of a few seconds, without sound, that shows the input, enlarged by bicubic, beside the result.

    Args:
        chunks: Those of the video, whose parts are there.
        done: The result for each.
        target: The file to write, an mp4.
        label: The label of the result.
        check: Called while ffmpeg works; what it raises ends ffmpeg.

    Raises:
        VideoError: the input can be read once only.
        MediaError: decoding or encoding failed.
        OSError: the file can't be written.
    """
    chunk, upscaled, first, count = _find_middle(chunks, done)
    if isinstance(chunk.frames, VideoFrames) and chunk.frames.info.is_stream:
        raise VideoError('no comparison: the input can be read once only')
    writer = None
    with (ExitStack() as stack, whole_file(target) as temporary, chunk.frames.open(chunk.ffmpeg) as source,
          closing(_read_parts(chunk, upscaled, check)) as results):
        for before, after in islice(zip(source, results, strict=False), first, first + count):
            check()
            after = convert_to_bgr8(after)
            window = tuple(slice((side - min(side, most)) // 2, (side + min(side, most)) // 2)
                           for side, most in zip(after.shape[:2], _LARGEST_PANEL, strict=True))
            shown = put_side_by_side(enlarge(convert_to_bgr8(before), after)[window], after[window], label)
            if writer is None:  # with the colours of the result, and as widely playable as can be
                writer = stack.enter_context(FrameWriter(chunk.ffmpeg, temporary, replace(
                    chunk.encoding, width=shown.shape[1], height=shown.shape[0], dtype_is_deep=False, alpha=False,
                    codec='libx264', pixel_format='yuv420p', container='mp4', crf=18, preset=None, hdr=None)))
            writer.write(shown)
        if writer is None:
            raise VideoError('no comparison: the input gave no frame')
        writer.finish()


def _find_middle(chunks: Sequence[Chunk], done: Sequence[Upscaled]) -> tuple[Chunk, Upscaled, int, int]:
    """Return the chunk in the middle of a video, its result, and which frames are shown: the first, how many."""
    left = sum(upscaled.frames for upscaled in done) // 2
    for chunk, upscaled in zip(chunks, done, strict=True):
        if left < upscaled.frames:
            count = min(round(_COMPARED_SECONDS * chunk.encoding.rate), upscaled.frames)
            return chunk, upscaled, min(max(left - count // 2, 0), upscaled.frames - count), count
        left -= upscaled.frames
    raise VideoError('no comparison: there are no frames')


def _read_parts(chunk: Chunk, upscaled: Upscaled, check: Check) -> Generator[np.ndarray]:
    """Yield the frames in the parts of a chunk."""
    for part in upscaled.parts:
        info = probe(chunk.ffmpeg, str(chunk.parts.path(part.first)), check)
        with FrameReader(chunk.ffmpeg, info, Decoding(chunk.encoding.rate, alpha=chunk.encoding.alpha)) as reader:
            yield from reader
