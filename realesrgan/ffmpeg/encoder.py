"""Encode frames in memory to a video, through a pipe."""
from __future__ import annotations

from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import ffmpeg
import numpy as np

from ..errors import MediaError
from .colour import (
    Colour,
    HdrMetadata,
    PixelFormat,
    choose_pixel_format,
    find_size_multiples,
    is_rgb,
    name_raw_format,
    parse_pixel_format,
)
from .containers import CONTAINERS
from .families import find_family
from .programs import Child, FFmpeg

_HELD_BY_MP4 = ('264', '265', 'hevc', 'av1', 'vp9')  # parts of the names of encoders
_CHROMA_TAGGED = ('libx264', 'libx265')
_MOST_ASPECT = (1 << 31) - 1
_CRF_IS_A_BOUND = ('libvpx', 'libvpx-vp9', 'libaom-av1')


@dataclass(frozen=True)
class Encoding:
    """How a video is encoded.

    Attributes:
        width, height: Of the frames that come in.
        dtype_is_deep: Whether they are uint16 rather than uint8.
        rate: Frames a second.
        sample_aspect: Width of a pixel divided by its height.
        colour: The tags of the video.
        codec: ffmpeg's name of the encoder.
        pixel_format: ffmpeg's name.
        container: A key of `CONTAINERS`.
        alpha: Whether frames come in with transparency, and keep it.
        crf: Constant rate factor, or None for the encoder's default. Encoders of cards get what comes nearest.
        preset: The encoder's own name of a preset, or None for its default. Those of cards take libx264's names too.
        hdr: HDR metadata, which is carried if the encoder takes it.
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
    alpha: bool = False
    crf: float | None = None
    preset: str | None = None
    hdr: HdrMetadata | None = None

    @property
    def channels(self) -> int:
        """The values of a pixel of the frames: BGR or BGRA."""
        return 3 + self.alpha

    @property
    def clears_hidden(self) -> bool:
        """Whether fully transparent pixels become black, which makes lossless RGB, as of APNG, far smaller."""
        return self.alpha and self.codec == 'ffv1' and is_rgb(self.pixel_format)


def choose_codec(asked: str | None, container: str, *, alpha: bool = False) -> str:
    """Return the encoder: the one asked for, else the container's default, which may be another for transparency.

    Raises:
        MediaError: the container can't hold what was asked for.
    """
    row = CONTAINERS[container]
    if asked and row.video_encoders and asked not in row.video_encoders:
        raise MediaError(f'--vcodec {asked}: {container} takes only {", ".join(row.video_encoders)}; leave --vcodec '
                         'out, or choose --ext mkv')
    return asked or (alpha and row.alpha_encoder) or row.default_encoder


def choose_part_container(codec: str, container: str, *, alpha: bool = False) -> str:
    """Return the container for the parts of a video: one with exact time stamps, if it holds the encoder's streams.

    `container` is that of the video that they will be joined to. MP4 does not hold transparency.
    """
    if CONTAINERS[container].is_animation:
        return 'mkv'
    exact = alpha or CONTAINERS[container].exact_times or not any(name in codec for name in _HELD_BY_MP4)
    return container if exact else 'mp4'


def choose_output_pixel_format(programs: FFmpeg, codec: str, asked: str | None, wanted: PixelFormat) -> str:
    """Return the pixel format of the result: the one asked for, else the nearest to the input's.

    Raises:
        MediaError: there is no such encoder, or it does not take the format asked for.
    """
    family = find_family(codec)
    supported = list_formats(programs, codec) if family and family.uploads else programs.list_pixel_formats(codec)
    if asked and supported and asked not in supported:
        raise MediaError(f'--pix_fmt {asked}: {codec} takes {", ".join(supported)}')
    formats = list_formats(programs, codec)
    if asked or family is None:
        return asked or choose_pixel_format(wanted, formats)
    planar = {parse_pixel_format(name).name: name for name in formats}  # cards list nv12 for yuv420p
    planar |= {name: name for name in formats if name in planar}
    chosen = choose_pixel_format(wanted, list(planar))
    return planar.get(chosen, chosen)


def list_formats(programs: FFmpeg, codec: str) -> tuple[str, ...]:
    """Return the pixel formats that an encoder may be given without being told to; none if it does not list them.

    Raises:
        MediaError: there is no such encoder.
    """
    listed, family = programs.list_pixel_formats(codec), find_family(codec)
    return family.select_formats(codec, listed) if family else listed


class FrameWriter(Child):
    """A running ffmpeg that encodes frames into a file without sound; after an error it may be there in part.

    `finish` encodes what is still in the pipe and closes the file. Without a target nothing is kept.

    Raises:
        MediaError: ffmpeg can't be started.
    """

    def __init__(self, programs: FFmpeg, target: Path | None, encoding: Encoding) -> None:
        self._dtype = np.dtype(np.uint16 if encoding.dtype_is_deep else np.uint8)
        self._shape = (encoding.height, encoding.width, encoding.channels)
        super().__init__(build_encode_command(programs, target, encoding), feed=True)

    def write(self, frame: np.ndarray) -> None:
        """Encode one frame: HxWx3, BGR, or with alpha HxWx4, BGRA; full range.

        Raises:
            ValueError: it does not have the shape and dtype of `encoding`.
            MediaError: the encoder has ended; the message says why.
        """
        if frame.shape != self._shape or frame.dtype != self._dtype:
            raise ValueError(f'the frame is {frame.shape}, {frame.dtype}, but the video is {self._shape}, '
                             f'{self._dtype}')
        self.send(np.ascontiguousarray(frame).data.cast('B'))


def build_encode_command(programs: FFmpeg, target: Path | None, encoding: Encoding) -> list[str]:
    """Return the command that encodes raw frames from stdin, without a target only to try it."""
    family = find_family(encoding.codec)
    rgb = is_rgb(encoding.pixel_format)
    colour = encoding.colour
    if encoding.codec not in _CHROMA_TAGGED:  # it does not write where chroma lies, so that players expect it here
        colour = replace(colour, chroma_location='center' if encoding.codec == 'mjpeg' else 'left')
    tags = replace(colour, range='pc', matrix='gbr') if rgb else colour
    frames = ffmpeg.input(
        'pipe:0', format='rawvideo', pixel_format=name_raw_format(deep=encoding.dtype_is_deep, alpha=encoding.alpha),
        video_size=(encoding.width, encoding.height), framerate=encoding.rate).video
    frames = _fit_size(frames, encoding)
    if not rgb:
        frames = frames.filter('scale', **colour.build_yuv_scale(encoding.pixel_format))
    frames = frames.filter('format', encoding.pixel_format).filter(
        'setparams', range=tags.range, colorspace=tags.matrix, color_primaries=tags.primaries, color_trc=tags.transfer)
    # Without `max`, the filter rounds to the nearest fraction of numbers up to 100.
    frames = frames.filter('setsar', '{}/{}'.format(*encoding.sample_aspect.as_integer_ratio()), max=_MOST_ASPECT)
    options = _build_encoder_options(encoding)
    if family and family.uploads:
        frames = frames.filter('hwupload')
    else:
        options['pix_fmt'] = encoding.pixel_format
    output = frames.output(
        'TARGET', format=CONTAINERS[encoding.container].muxer if target else 'null', **programs.passthrough,
        **tags.build_stream_tags(encoding.pixel_format), **options)
    command = programs.compile(output.overwrite_output(), TARGET=f'file:{target}' if target else '-')
    if family and family.uploads:  # in this order: ffmpeg looks for the device as it reads the second option
        start = len(programs.base_command)
        command[start:start] = ['-init_hw_device', f'{family.hwaccel}=card', '-filter_hw_device', 'card']
    return command


def _fit_size(frames: Any, encoding: Encoding) -> Any:
    """Cut off the column and line that the pixel format can't hold; a single one is doubled instead."""
    columns, rows = find_size_multiples(encoding.pixel_format)
    width = max(encoding.width // columns, 1) * columns
    height = max(encoding.height // rows, 1) * rows
    if (width, height) == (encoding.width, encoding.height):
        return frames
    if width <= encoding.width and height <= encoding.height:
        return frames.filter('crop', width, height, 0, 0)
    return frames.filter('scale', width, height)


def _build_encoder_options(encoding: Encoding) -> dict[str, str]:
    options = {'c:v': encoding.codec}
    if encoding.alpha and encoding.codec.startswith('libvpx'):
        options['auto-alt-ref'] = '0'  # with it, libvpx encodes no transparency
    if encoding.hdr is not None:
        options |= encoding.hdr.build_options(encoding.codec)
    if family := find_family(encoding.codec):
        options |= family.build_options(encoding.codec, encoding.crf, encoding.preset)
    else:
        if encoding.crf is not None:
            options['crf'] = f'{encoding.crf:g}'
            if encoding.codec in _CRF_IS_A_BOUND:
                options['b:v'] = '0'  # otherwise the bit rate is 200 kbit/s, and crf only bounds it
        if encoding.preset is not None:
            options['preset'] = encoding.preset
    hevc_tag = CONTAINERS[encoding.container].hevc_tag
    if encoding.codec.startswith(('libx265', 'hevc_')) and hevc_tag:
        options['tag:v'] = hevc_tag
    return options
