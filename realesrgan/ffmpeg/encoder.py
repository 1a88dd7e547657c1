"""Encode pictures in memory to a video, through a pipe."""
from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Self

import numpy as np

from ..errors import MediaError
from .colour import Colour, PixelFormat, choose_pixel_format, is_rgb, step
from .process import Child
from .programs import FFmpeg

#: ffmpeg's muxer for each container that can be chosen.
MUXERS = {'mp4': 'mp4', 'mkv': 'matroska', 'mov': 'mov', 'webm': 'webm'}
_EXACT_IN_MP4 = ('264', '265', 'hevc', 'av1', 'vp9')  # in names of encoders
_WEBM_ENCODERS = ('libvpx', 'libvpx-vp9', 'libaom-av1', 'libsvtav1', 'librav1e', 'av1_nvenc', 'av1_qsv', 'vp9_qsv',
                  'vp8_vaapi', 'vp9_vaapi', 'av1_vaapi', 'av1_amf')


@dataclass(frozen=True)
class EncoderOptions:
    """What the user may say about the encoder; None leaves it to the encoder, or to the input.

    Attributes:
        codec: ffmpeg's name of the encoder.
        crf: Constant rate factor.
        preset: Of the encoder.
        pixel_format: ffmpeg's name.
    """

    codec: str | None = None
    crf: float | None = None
    preset: str | None = None
    pixel_format: str | None = None


@dataclass(frozen=True)
class Encoding:
    """Everything that the encoder has to know.

    Attributes:
        width, height: Of the pictures that come in.
        dtype_is_deep: Whether they are uint16.
        rate: Frames a second.
        sample_aspect: Width of a pixel divided by its height.
        colour: What the video is tagged as.
        codec: ffmpeg's name of the encoder.
        pixel_format: ffmpeg's name.
        container: A key of `MUXERS`.
        crf, preset: See `EncoderOptions`.
    """

    width: int
    height: int
    dtype_is_deep: bool
    rate: Fraction
    sample_aspect: Fraction
    colour: Colour
    codec: str
    pixel_format: str
    container: str
    crf: float | None = None
    preset: str | None = None


def part_container(codec: str, container: str) -> str:
    """Return the container of parts that are joined later: MP4 where it takes the codec, for its exact time stamps.

    Args:
        codec: ffmpeg's name of the encoder.
        container: That of the result.
    """
    return 'mp4' if container in ('mkv', 'webm') and any(name in codec for name in _EXACT_IN_MP4) else container


def choose_codec(asked: str | None, container: str) -> str:
    """Return the encoder: what was asked for, else libx264, or libvpx-vp9 in webm, which takes no H.264.

    Raises:
        MediaError: the container can't hold what was asked for.
    """
    if container != 'webm':
        return asked or 'libx264'
    if asked and asked not in _WEBM_ENCODERS:
        raise MediaError(f'--vcodec {asked}: webm holds VP8, VP9 and AV1 only; leave --vcodec out, or choose --ext mkv')
    return asked or 'libvpx-vp9'


def pixel_format_for(ffmpeg: FFmpeg, codec: str, asked: str | None, wanted: PixelFormat) -> str:
    """Return the pixel format of the result: what was asked for, else the nearest to the input's.

    Raises:
        MediaError: there is no such encoder, or it does not take the format asked for.
    """
    supported = ffmpeg.pixel_formats(codec)
    if asked and supported and asked not in supported:
        raise MediaError(f'--pix_fmt {asked}: {codec} takes {", ".join(supported)}')
    return asked or choose_pixel_format(wanted, supported)


class FrameWriter:
    """Encodes pictures into a file without sound; a context manager.

    Args:
        ffmpeg: The programs.
        target: The file to write; on an error it is there in part.
        encoding: How.

    Raises:
        MediaError: ffmpeg can't be started.
    """

    def __init__(self, ffmpeg: FFmpeg, target: Path, encoding: Encoding) -> None:
        self._dtype = np.dtype(np.uint16 if encoding.dtype_is_deep else np.uint8)
        self._shape = (encoding.height, encoding.width, 3)
        self._child = Child(encode_command(ffmpeg, target, encoding), feed=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self._child.__exit__(*exception)

    def kill(self) -> None:
        """Stop encoding, at once; whoever is writing a frame gets an error."""
        self._child.kill()

    def write(self, frame: np.ndarray) -> None:
        """Encode one picture, HxWx3, BGR.

        Raises:
            ValueError: it is of another shape or dtype than the encoder was told.
            MediaError: the encoder has ended; the message says why.
        """
        if frame.shape != self._shape or frame.dtype != self._dtype:
            raise ValueError(f'a frame of {frame.shape}, {frame.dtype}; the video is {self._shape}, {self._dtype}')
        self._child.write(np.ascontiguousarray(frame).data.cast('B'))

    def finish(self) -> None:
        """Encode what is still in the pipe and close the file.

        Raises:
            MediaError: the encoder failed.
        """
        self._child.check()


def encode_command(ffmpeg: FFmpeg, target: Path, encoding: Encoding) -> list[str]:
    """Return the command that encodes the frames from stdin."""
    rgb = is_rgb(encoding.pixel_format)
    tags = encoding.colour.for_rgb() if rgb else encoding.colour
    filters = []
    columns, rows = step(encoding.pixel_format)
    width, height = (max(side // multiple, 1) * multiple for side, multiple in (
        (encoding.width, columns), (encoding.height, rows)))
    if (width, height) != (encoding.width, encoding.height):  # what does not fit is cut off; a lone line is doubled
        fits = width <= encoding.width and height <= encoding.height
        filters.append(f'crop={width}:{height}:0:0' if fits else f'scale={width}:{height}')
    if rgb:
        filters.append(f'format={encoding.pixel_format}')
    else:
        filters += [f'scale={encoding.colour.to_yuv()}', f'format={encoding.pixel_format}']
    filters += [tags.tag_filter(), f'setsar={encoding.sample_aspect.numerator}/{encoding.sample_aspect.denominator}']
    command = [*ffmpeg.command(), '-y', '-f', 'rawvideo', '-pixel_format',
               'bgr48le' if encoding.dtype_is_deep else 'bgr24', '-video_size', f'{encoding.width}x{encoding.height}',
               '-framerate', str(encoding.rate), '-i', 'pipe:0', '-vf', ','.join(filters), '-c:v', encoding.codec,
               '-pix_fmt', encoding.pixel_format, *ffmpeg.all_frames(), *tags.tag_options()]
    if encoding.crf is not None:
        command += ['-crf', f'{encoding.crf:g}']
        if encoding.codec.startswith('libvpx') or encoding.codec == 'libaom-av1':
            command += ['-b:v', '0']  # else crf is only an upper bound, beside a rate of 200 kbit/s
    if encoding.preset is not None:
        command += ['-preset', encoding.preset]
    if encoding.codec in ('libx265', 'hevc_nvenc') and encoding.container in ('mp4', 'mov'):
        command += ['-tag:v', 'hvc1']  # Apple's players go by it
    return [*command, '-f', MUXERS[encoding.container], f'file:{target}']
