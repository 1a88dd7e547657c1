"""Decode a video to pictures in memory, through a pipe."""
from __future__ import annotations

import re
import signal
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Self

import numpy as np

from ..errors import MediaError, NoSpaceError
from .colour import parse_pixel_format
from .probe import MediaInfo, VideoStream, absolute_argument
from .process import Child
from .programs import FFmpeg
from .timing import seconds

_KILLED = (-signal.SIGTERM, -9)


@dataclass(frozen=True)
class Kept:
    """Which of the frames that come out of the decoder, and of resampling, are kept.

    Attributes:
        start, stop: The first, and the first that is not; None for no bound.
        unit: 'frame' counts the frames that come; 'time' is in seconds, and 'pts' in ticks of a resampled video's
            rate, both by the frame's own time, after `Decoding.origin`.
    """

    start: int | Fraction | None
    stop: int | Fraction | None
    unit: str = 'frame'

    def filter(self) -> str:
        """Return the arguments of ffmpeg's filter trim; none if all are kept."""
        ending = '' if self.unit == 'time' else f'_{self.unit}'
        bounds = {'start': (self.start or None) if self.unit == 'frame' else self.start, 'end': self.stop}
        return ':'.join(f'{name}{ending}={value if isinstance(value, int) else seconds(value)}'
                        for name, value in bounds.items() if value is not None)


@dataclass(frozen=True)
class Decoding:
    """Which frames of a video are decoded, and how.

    Attributes:
        rate: Frames a second that come out.
        resample: Whether frames are repeated and left out to get to `rate`; else each comes out as it is.
        from_zero: Whether resampling begins at the start of the file, with repeats of the first frame if it comes
            later.
        deinterlace: Whether bwdif turns two fields into one frame.
        origin: The time stamp, in the stream's own time base, from which `kept` counts; None where time stamps are not
            relied on.
        seek: Seconds that are passed over: with an origin on the clock of the file, to a key frame from which all
            that is kept can be decoded; else from the start of the file, to the first frame.
        duration: Seconds to decode, or None for all.
        kept: Which frames of those.
    """

    rate: Fraction
    resample: bool = False
    from_zero: bool = False
    deinterlace: bool = False
    origin: int | None = None
    seek: Fraction | None = None
    duration: Fraction | None = None
    kept: Kept = Kept(None, None)


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
        MediaError: ffmpeg can't be started; or, while iterating, it was killed, which is no fault of the file.
    """

    def __init__(self, ffmpeg: FFmpeg, info: MediaInfo, decoding: Decoding, also: Sequence[str] = ()) -> None:
        if info.video is None:
            raise MediaError(f'{info.source}: has no video')
        self._video = info.video
        self.dtype = np.dtype(np.uint16 if _is_deep(info) else np.uint8)
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
        if status in _KILLED:
            raise self._child.failure()
        if status != 0 or rest or self._child.errors:
            reason = str(self._child.failure()) if status else '; '.join(list(dict.fromkeys(self._child.errors))[:2])
            first = self.decoded if self._first_error is None else self._first_error
            self.damage = Damage(first, reason or 'the last frame is cut')


def is_deep(pixel_format: str) -> bool:
    """Tell whether a pixel format has more than 8 bits."""
    return parse_pixel_format(pixel_format).bits > 8


def decode_command(ffmpeg: FFmpeg, info: MediaInfo, decoding: Decoding, also: Sequence[str] = ()) -> list[str]:
    """Return the command that writes the frames to stdout, and the other tracks where `also` says."""
    return [*_decoding(ffmpeg, info, decoding), '-f', 'rawvideo', '-pix_fmt', 'bgr48le' if _is_deep(info) else 'bgr24',
            'pipe:1', *also]


def examine(ffmpeg: FFmpeg, info: MediaInfo, decoding: Decoding) -> tuple[int, list[str]]:
    """Decode frames for nothing, and return how many there are and what ffmpeg says of damage."""
    with Child([*_decoding(ffmpeg, info, decoding), '-f', 'null', '-progress', 'pipe:1', '-']) as child:
        report = (child.output.readall() or b'').decode(errors='replace')
        child.finish()
        counts = re.findall(r'^frame=\s*(\d+)', report, re.MULTILINE)
        return int(counts[-1]) if counts else 0, child.errors


def extract_frames(ffmpeg: FFmpeg, info: MediaInfo, decoding: Decoding, folder: Path) -> Damage | None:
    """Decode the frames into a folder as numbered png files, which lose nothing.

    Raises:
        MediaError: ffmpeg failed; the frames up to then are there.
    """
    command = [*_decoding(ffmpeg, info, decoding), '-f', 'image2', '-compression_level', '1', '-pix_fmt',
               'rgb48be' if _is_deep(info) else 'rgb24', '%08d.png']
    # Run in the folder, for a % in its name would be taken for a pattern's.
    with Child(command, cwd=folder) as child:
        status = child.finish()
        failure, errors = child.failure(), child.errors
    count = sum(1 for _ in folder.iterdir())
    if isinstance(failure, NoSpaceError):
        raise failure
    if count == 0:
        raise MediaError(f'no frame could be decoded: {failure}')
    return Damage(count, str(failure) if status else '; '.join(errors[:2])) if status or errors else None


def _is_deep(info: MediaInfo) -> bool:
    assert info.video is not None
    return is_deep(info.video.pixel_format)


def _decoding(ffmpeg: FFmpeg, info: MediaInfo, decoding: Decoding) -> list[str]:
    """Return the command up to the format of the output."""
    assert info.video is not None
    return [*_input(ffmpeg, info, decoding), *_output(ffmpeg, info.video, decoding)]


def _input(ffmpeg: FFmpeg, info: MediaInfo, decoding: Decoding) -> list[str]:
    command = ffmpeg.command()
    if decoding.origin is not None:
        # Frames keep their own time stamps; where the seek goes to does not matter if it is not too late.
        command += ['-copyts', '-noaccurate_seek', '-seek_timestamp', '1']
    if decoding.seek is not None:
        command += ['-ss', seconds(decoding.seek)]
    if decoding.duration is not None:
        command += ['-t', seconds(decoding.duration)]
    return [*command, '-i', absolute_argument(info)]


def _output(ffmpeg: FFmpeg, video: VideoStream, decoding: Decoding) -> list[str]:
    filters = []
    if decoding.origin is not None:
        filters.append(f'setpts=PTS-({decoding.origin})')
    if decoding.deinterlace:
        filters.append('bwdif=mode=send_frame:parity=auto:deint=all')
    if decoding.resample:
        filters.append(f'fps={decoding.rate}{":start_time=0" if decoding.from_zero else ""}')
    if kept := decoding.kept.filter():
        filters.append(f'trim={kept}')
    filters.append(f'scale={video.width}:{video.height}:{video.colour.from_yuv()}')
    # Numbers in the place of times, which some videos repeat, and of which ffmpeg then complains.
    tick = 1 / decoding.rate
    filters += [f'settb={tick}', 'setpts=N']
    return ['-map', f'0:{video.index}', '-vf', ','.join(filters), *ffmpeg.all_frames(), '-enc_time_base', str(tick)]
