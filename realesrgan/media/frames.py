"""Decode a video to pictures in memory, through a pipe."""
from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Self

import numpy as np

from .binaries import FFmpeg
from .colour import parse_pixel_format
from .probe import MediaInfo, VideoStream
from .process import Child, MediaError, source_argument
from .timing import seconds

logger = logging.getLogger(__name__)

DEINTERLACE = ('auto', 'on', 'off')


@dataclass(frozen=True)
class Decoding:
    """Which frames of a video are decoded, and how.

    Attributes:
        rate: Frames a second that come out.
        resample: Whether frames are repeated and left out to get to `rate`; else each comes out as it is.
        from_zero: Whether resampling begins at the start of the file, with repeats of the first frame if it comes
            later.
        deinterlace: Whether bwdif turns two fields into one frame.
        seek: Seconds from the start of the file that are passed over, or None to begin at the first frame.
        lead: Seconds by which the first frame comes after `seek`, or the start of the file.
        duration: Seconds to decode, or None for all.
        frames: The number of frames to decode, or None for all.
    """

    rate: Fraction
    resample: bool = False
    from_zero: bool = False
    deinterlace: bool = False
    seek: Fraction | None = None
    lead: Fraction = Fraction(0)
    duration: Fraction | None = None
    frames: int | None = None


@dataclass(frozen=True)
class Damage:
    """A place where decoding went wrong: the number of frames that came before it, and ffmpeg's words."""

    frame: int
    reason: str


class FrameReader:
    """The frames of a video: a context manager and an iterator of HxWx3, BGR, uint8 or uint16 (deep video).

    What the file has damaged is in `damage` after the last frame; what could be decoded comes out nevertheless.

    Args:
        ffmpeg: The programs.
        info: The input, with a video stream.
        decoding: Which frames.
        also: Output options and a file, into which the other tracks go in the same pass, for what can't be read
            twice.

    Raises:
        MediaError: ffmpeg can't be started; or, while iterating, not a single frame could be decoded.
    """

    def __init__(self, ffmpeg: FFmpeg, info: MediaInfo, decoding: Decoding, also: Sequence[str] = ()) -> None:
        if info.video is None:
            raise MediaError(f'{info.source}: has no video')
        self._video = info.video
        self.dtype = np.dtype(np.uint16 if is_deep(info.video.pixel_format) else np.uint8)
        self.damage: Damage | None = None
        self.decoded = 0
        self._first_error: int | None = None
        self._child = Child(decode_command(ffmpeg, info, decoding, also), on_error=self._note_error)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self._child.__exit__(*exception)

    def kill(self) -> None:
        """Stop decoding, at once; whoever waits for a frame gets the end."""
        self._child.kill()

    def _note_error(self) -> None:
        self._first_error = self.decoded

    def __iter__(self) -> Iterator[np.ndarray]:
        while True:
            frame = np.empty((self._video.height, self._video.width, 3), self.dtype)
            view, filled = frame.data.cast('B'), 0
            while filled < len(view):
                count = self._child.output.readinto(view[filled:])
                if not count:
                    break
                filled += count
            if filled < len(view):
                break
            self.decoded += 1
            yield frame
        self._look_back(filled)

    def _look_back(self, rest: int) -> None:
        """Find out whether the end was the true one."""
        status = self._child.finish()
        if self.decoded == 0:
            raise MediaError(f'no frame could be decoded: {self._child.failure()}')
        if status != 0 or rest or self._child.errors:
            reason = self._child.failure() if status else '; '.join(list(dict.fromkeys(self._child.errors))[:2])
            first = self.decoded if self._first_error is None else self._first_error
            self.damage = Damage(first, reason or 'the last frame is cut')


def is_deep(pixel_format: str) -> bool:
    """Tell whether a pixel format has more than 8 bits."""
    return parse_pixel_format(pixel_format).bits > 8


def decode_command(ffmpeg: FFmpeg, info: MediaInfo, decoding: Decoding, also: Sequence[str] = ()) -> list[str]:
    """Return the command that writes the frames to stdout, and the other tracks where `also` says."""
    assert info.video is not None
    return [*input_of(ffmpeg, info, decoding), *_output(ffmpeg, info.video, decoding),
            '-f', 'rawvideo', '-pix_fmt', 'bgr48le' if is_deep(info.video.pixel_format) else 'bgr24', 'pipe:1', *also]


def extract_frames(ffmpeg: FFmpeg, info: MediaInfo, decoding: Decoding, folder: Path) -> Damage | None:
    """Decode the frames into a folder as numbered png files, which lose nothing.

    Raises:
        MediaError: ffmpeg failed; the frames up to then are there.
    """
    assert info.video is not None
    deep = is_deep(info.video.pixel_format)
    command = [*input_of(ffmpeg, info, decoding), *_output(ffmpeg, info.video, decoding), '-f', 'image2',
               '-compression_level', '1', '-pix_fmt', 'rgb48be' if deep else 'rgb24', '%08d.png']
    # Run in the folder, for a % in its name would be taken for a pattern's.
    with Child(command, cwd=folder) as child:
        status = child.finish()
        failure, errors = child.failure(), child.errors
    count = sum(1 for _ in folder.iterdir())
    if any('No space left' in error for error in errors):
        raise MediaError(failure)
    if count == 0:
        raise MediaError(f'no frame could be decoded: {failure}')
    return Damage(count, failure if status else '; '.join(errors[:2])) if status or errors else None


def input_of(ffmpeg: FFmpeg, info: MediaInfo, decoding: Decoding) -> list[str]:
    """Return the beginning of the command, up to the input."""
    command = ffmpeg.command()
    if decoding.seek is not None:
        command += ['-ss', seconds(decoding.seek)]
    if decoding.duration is not None:
        command += ['-t', seconds(decoding.duration)]
    if decoding.lead:
        command += ['-itsoffset', seconds(-decoding.lead)]
    source = info.source if info.is_stream else str(Path(info.source).absolute())
    return [*command, '-i', source_argument(source)]


def _output(ffmpeg: FFmpeg, video: VideoStream, decoding: Decoding) -> list[str]:
    filters = []
    if decoding.deinterlace:
        filters.append('bwdif=mode=send_frame:parity=auto:deint=all')
    if decoding.resample:
        filters.append(f'fps={decoding.rate}{":start_time=0" if decoding.from_zero else ""}')
    filters.append(f'scale={video.width}:{video.height}:{video.colour.from_yuv()}')
    options = ['-map', f'0:{video.index}', '-vf', ','.join(filters), *ffmpeg.all_frames()]
    return options if decoding.frames is None else [*options, '-frames:v', str(decoding.frames)]
