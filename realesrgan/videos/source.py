"""The source of a video: a file or stream, an animated picture, or a folder of frames."""
from __future__ import annotations

import functools
import logging
import math
from collections.abc import Callable, Generator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import MediaError
from ..ffmpeg.colour import is_deep
from ..ffmpeg.containers import CONTAINERS
from ..ffmpeg.decoder import FORGETS, Damage, FrameReader, count_frames, extract_frames, is_of_a_cut
from ..ffmpeg.encoder import Encoding
from ..ffmpeg.hardware import choose_hwaccel, require_encoder
from ..ffmpeg.mux import build_recording_options
from ..ffmpeg.probe import MediaInfo
from ..ffmpeg.programs import Check, FFmpeg
from ..ffmpeg.timing import format_clock
from ..files import temporary_folder
from ..options import VideoOptions
from .animations import Animation, select
from .frames import FrameFiles, FrameShape, VideoFrames, measure_frames
from .parts import TRACKS, Parts, check_room, estimate_extracted_size, identify_files
from .plan import Ranges, VideoPlan, cut_into_chunks, encode_frames, encode_like_video, plan_video
from .steady import RADIUS
from .worker import Chunk, Upscaled

logger = logging.getLogger(__name__)

#: The length of a chunk if the caller does not say it.
CHUNK_SECONDS = 10


class Source:
    """A video file or stream, an animated picture, or picture files of one size.

    Args:
        ffmpeg: The programs.
        name: The input as it was given.
        given: The result of ffprobe for it, or for a copy of it; an animated picture; or the pictures of a folder, in
            order.
        options: The caller's.
        check: Called several times a second while ffmpeg works; what it raises ends ffmpeg.

    Attributes:
        encoding: How its parts are encoded.
        plan: How a video is read; None of an animated picture and of a folder.
        makes_animation: Whether the result is an animated picture.
        animation: Which frames of an animated picture come out, and when; else None.
        total: Its number of frames, or None if that is unknown.
        size: Width and height of its frames.
        step: Frames in a second if chunks may be cut further into parts, else 0.
        extracted_bytes: Room on the disk for its frames, if they are written to files first.

    Raises:
        FrameError: a picture is of another size than the first, or the first can't be read.
        VideoError: it has no video, or none between --start and --end.
        MediaError: ffprobe failed, or the encoder is not there or does not go with the container or the pixel format.
    """

    def __init__(self, ffmpeg: FFmpeg, name: str, given: MediaInfo | Animation | Sequence[Path],
                 options: VideoOptions, check: Check) -> None:
        self.ffmpeg, self.name = ffmpeg, name
        self._options, self._check = options, check
        self._files: Sequence[Path] = ()
        self._shape: FrameShape | None = None
        self._extracts = False
        self._extraction_damage: Damage | None = None
        self.plan: VideoPlan | None = None
        self.animation: Animation | None = None
        self.makes_animation = CONTAINERS[options.container].is_animation
        self.encoding: Encoding
        self.total: int | None
        self.extracted_bytes = 0
        if isinstance(given, MediaInfo):
            self._extracts = options.extract_frame_first and not given.is_stream
            if options.extract_frame_first and given.is_stream:
                logger.warning('--extract_frame_first has no effect on a stream, which can be read once only')
            self.plan = plan_video(ffmpeg, given, options, check)
            self.encoding = encode_like_video(ffmpeg, self.plan, options, check)
            if self.encoding.alpha:
                self.plan = replace(self.plan, decoding=replace(self.plan.decoding, alpha=True))
            self.total, video = self.plan.total, self.plan.video
            self.size = video.width, video.height
            if self._extracts:
                self.extracted_bytes = estimate_extracted_size(
                    *self.size, self.total or 0, deep=is_deep(video.pixel_format))
        elif isinstance(given, Animation):
            self.animation = animation = select(given, options)
            shape = FrameShape(given.height, given.width, deep=False, name=given.path.name, alpha=given.alpha)
            self.encoding = encode_frames(ffmpeg, shape, options, options.fps or animation.rate)
            self.total, self.size = len(animation.numbers), (given.width, given.height)
        else:
            for option in ('start', 'end'):
                if getattr(options, option) is not None:
                    logger.warning('--%s has no effect on a folder of frames', option)
            self._files, self._shape = given, measure_frames(given, options.max_pixels)
            self.encoding = encode_frames(ffmpeg, self._shape, options)
            self._shape = replace(self._shape, alpha=self.encoding.alpha)
            self.total, self.size = len(given), (self._shape.width, self._shape.height)
        self._use_cards()
        if options.container == 'gif' and self.encoding.alpha and (self.animation is None or self.animation.soft):
            logger.warning('%s transparency becomes hard, as gif holds no other; --ext apng or webp keeps it',
                           'its soft' if self.animation else 'any soft')
        is_divisible = self.plan is None or self.plan.is_divisible
        self.step = math.ceil(self.encoding.rate) if options.chunk is None and is_divisible else 0

    def _use_cards(self) -> None:
        """Choose what decodes, and check that the encoder starts; not for a cluster, whose nodes have other cards."""
        options, plan = self._options, self.plan
        if options.cluster is None:
            require_encoder(self.ffmpeg, self.encoding)
            if plan is not None:
                hwaccel = choose_hwaccel(self.ffmpeg, plan.info, plan.decoding, options.hwaccel)
                self.plan = replace(plan, decoding=replace(plan.decoding, hwaccel=hwaccel))
        if options.hwaccel != 'none' and (options.cluster is not None or plan is None):
            logger.warning('--hwaccel has no effect on %s', 'pictures' if plan is None else 'a cluster')

    def identify(self) -> dict[str, Any]:
        """Return sizes and hashes that tell this source from another one of the same name."""
        identity: dict[str, Any] = {}
        if self.encoding.alpha:
            identity['alpha_upsampler'] = self._options.alpha_upsampler
        if self.animation is not None:
            return identify_files([self.animation.path]) | identity
        if self.plan is None:
            return identify_files(self._files) | identity
        info, decoding = self.plan.info, self.plan.decoding
        if info.is_stream:
            return {'source': info.source} | identity
        identity |= identify_files([Path(info.source)])
        if decoding.resample and self._options.fps is None:  # the rate is a choice then, which a version may change
            identity['frame_rate'] = str(decoding.rate)
        return identity

    def cut(self) -> Ranges:
        """Return the chunks as ranges of frames, the last one open."""
        plan, length = self.plan, self._measure_chunk()
        return plan.list_chunks(length) if plan else cut_into_chunks(length, (self.total or 1) - 1)

    def _measure_chunk(self) -> int:
        """Return the number of frames in a chunk; 0 for one chunk."""
        chunk = self._options.chunk
        return math.ceil((CHUNK_SECONDS if chunk is None else chunk) * self.encoding.rate)

    def make_chunks(self, parts: Parts, stack: ExitStack) -> list[Chunk]:
        """Return the chunks; the files that they need stay until the stack ends."""
        ranges: Ranges
        take: Callable[[int, int | None], VideoFrames | FrameFiles | Animation]
        files, plan = self._extract(parts, stack) if self._extracts else self._files, self.plan
        if self.animation is not None:
            ranges, total = self.cut(), len(self.animation.numbers)
            take = functools.partial(self.animation.take, alpha=self.encoding.alpha)
        elif plan is None or self._extracts:
            shape, total = self._shape or measure_frames(files[:1], self._options.max_pixels), len(files)
            ranges = cut_into_chunks(self._measure_chunk(), total - 1)
            take = lambda first, stop: FrameFiles(files[first:stop], shape)  # noqa: E731
        elif plan.is_divisible:
            ranges, total, take = self.cut(), plan.total or 0, functools.partial(self._seek, plan)
        else:
            logger.info('the length is unknown: one part, which can\'t be resumed')
            recording = build_recording_options(plan.info.tracks, parts.folder / TRACKS) if plan.info.is_stream else []
            ranges, total, whole = [(0, None)], 0, VideoFrames(plan.info, plan.decoding, also=tuple(recording))
            take = lambda _first, _stop: whole  # noqa: E731

        def take_few(first: int, stop: int) -> VideoFrames | FrameFiles | Animation:
            return take(max(first, 0), stop if stop < total else None)

        chunks = [Chunk(self.name, index, first, stop, take(first, stop), self.encoding, self.ffmpeg,
                        self._options.outscale, parts, self.step) for index, (first, stop) in enumerate(ranges)]
        radius = RADIUS if self._options.steady else 0
        return [replace(chunk, before=take_few(chunk.first - radius - 1, chunk.first) if chunk.first else None,
                        after=take_few(chunk.stop, chunk.stop + radius) if chunk.stop and radius else None)
                for chunk in chunks]

    def _seek(self, plan: VideoPlan, first: int, stop: int | None) -> VideoFrames:
        decoding = plan.decode_chunk(first, stop)
        if decoding.seek is None or plan.stamps is None:
            return VideoFrames(plan.info, decoding)
        alone = plan.decode_chunk(first, None if first + 1 == plan.total else first + 1)
        return VideoFrames(plan.info, decoding, alone, plan.decode_chunk(first, stop, seek=False))

    def _extract(self, parts: Parts, stack: ExitStack) -> list[Path]:
        """Decode all frames into a folder and return its files."""
        assert self.plan is not None
        folder = stack.enter_context(temporary_folder(parts.folder / 'frames'))
        logger.info('extracting frames')

        def check() -> None:
            self._check()
            check_room(parts.folder)
        self._extraction_damage = extract_frames(self.ffmpeg, self.plan.info, self.plan.decoding, folder, check)
        return sorted(folder.iterdir())

    def find_damage(self, chunks: Sequence[Chunk], done: Sequence[Upscaled]) -> list[str]:
        """Return a line for each damage.

        Raises:
            MediaError: no frame could be decoded.
        """
        plan, frames = self.plan, sum(upscaled.frames for upscaled in done)
        if self.animation is not None and (broken_off := self.animation.damage) is not None:
            return [f'{self.name}: damaged; {frames} frames could be decoded: {broken_off.reason}']
        if plan is None:
            return []
        damage = self._extraction_damage if self._extracts else self._find_first_damage(plan, chunks, done)
        if damage is not None and self._is_of_a_cut(plan, damage):
            damage = None
        if not frames:
            raise MediaError(f'no frame could be decoded: {damage.reason if damage else "no reason given"}')
        if damage is not None:
            broken, end = (format_clock(plan.begin + count / plan.decoding.rate) for count in (damage.frame, frames))
            by_card = f'; --hwaccel none may do better than {plan.decoding.hwaccel}'
            return [f'{self.name}: damaged at about {broken}; {frames} frames could be decoded, up to {end}: '
                    f'{damage.reason}' + by_card * (plan.decoding.hwaccel != 'none')]
        if plan.is_total_exact and plan.total is not None and frames < plan.total:
            logger.warning('%d frames, fewer than the %d packets of the input; ffmpeg reports no damage', frames,
                           plan.total)
        return []

    def _find_first_damage(self, plan: VideoPlan, chunks: Sequence[Chunk], done: Sequence[Upscaled]) -> Damage | None:
        """Return the first damage that the workers met, counted from the first frame of all.

        After a seek ffmpeg may complain about frames that it can't decode but that nobody needs. If only chunks that
        were sought complain, the video is decoded once more from its start: if that passes, nothing is damaged.
        """
        found = [(chunk, upscaled.damage) for chunk, upscaled in zip(chunks, done, strict=True) if upscaled.damage]
        if not found:
            return None
        if all(isinstance(chunk.frames, VideoFrames) and chunk.frames.unseeked for chunk, _ in found):
            logger.info('looking for damage')
            whole = replace(plan.decode_chunk(0, None, seek=False), hwaccel='none')
            if not count_frames(self.ffmpeg, plan.info, whole, self._check)[1]:
                return None
        chunk, damage = found[0]
        return replace(damage, frame=chunk.first + damage.frame)

    def _is_of_a_cut(self, plan: VideoPlan, damage: Damage) -> bool:
        """Tell whether only the edit list of a cut is behind what looks like damage."""
        stamps = plan.stamps
        if stamps is None or not stamps.hides_packets or FORGETS not in damage.reason:
            return False
        logger.info('looking for damage')
        whole = replace(plan.decode_chunk(0, None, seek=False), hwaccel='none')
        return is_of_a_cut(self.ffmpeg, plan.info, whole, self._check)

    def sample(self, first: int = 0) -> Generator[np.ndarray, None, None]:
        """Yield frames from a number on, for a dry run or preview; none of a stream, which could not be read again."""
        plan = self.plan
        if self.animation is not None:
            yield from self.animation.take(first, None, alpha=self.encoding.alpha).open(self.ffmpeg)
        elif self._shape is not None:
            yield from FrameFiles(self._files[first:], self._shape)
        elif first and plan is not None and plan.is_divisible:
            with self._seek(plan, first, None).open(self.ffmpeg) as frames:
                yield from frames
        elif plan is not None and not plan.info.is_stream:
            with FrameReader(self.ffmpeg, plan.info, plan.decoding) as reader:
                yield from reader
