"""Animated pictures: GIF, APNG, WebP and AVIF are read frame by frame; all but AVIF are written.

Pillow reads them: it composes each frame as viewers show it (disposal, blending, partial frames, local palettes). GIF
and APNG are written by ffmpeg, whose palettes and differences between frames are the better ones, at a constant rate;
then the durations are put into the file. WebP is written by libwebp through Pillow.
"""
from __future__ import annotations

import logging
import math
import struct
import warnings
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import accumulate, count, pairwise
from pathlib import Path
from typing import Self

import numpy as np
from PIL import Image, UnidentifiedImageError

from ..errors import ImageError, MediaError, VideoError, flatten_message
from ..ffmpeg.containers import CONTAINERS
from ..ffmpeg.decoder import Damage, Decoding, FrameReader
from ..ffmpeg.probe import MediaInfo
from ..ffmpeg.programs import Check, FFmpeg, run
from ..ffmpeg.timing import TimeStamps, choose_timeline
from ..options import VideoOptions
from ..pictures.formats import require_few_pixels
from .frames import StillFrames

logger = logging.getLogger(__name__)

#: Pillow's names of the formats that may be animated, and the containers of their results; AVIF is not written.
KINDS = {'GIF': 'gif', 'PNG': 'apng', 'WEBP': 'webp', 'AVIF': 'webp'}
#: The extensions of files that are looked into for animations.
EXTENSIONS = frozenset(('gif', 'png', 'apng', 'webp', 'avif', 'avifs'))
_HARDLY_SHOWN, _SHOWN_INSTEAD = Fraction(1, 100), Fraction(1, 10)  # seconds; what browsers make of so short a frame
_NOMINAL_RATE = '10'  # frames a second of files whose durations are put in later
_TICK = f'settb=1/{_NOMINAL_RATE},setpts=N'
_MOST_DELAY = 65535  # of a frame of GIF, in hundredths of a second
_MOST_WEBP_DELAY = (1 << 24) - 1
_WEBP_QUALITY = 95  # as that of pictures


@dataclass(frozen=True)
class Animation(StillFrames):
    """An animated picture, and which of its frames come out when: a context manager and an iterator of these.

    They are HxWx3, BGR, or with alpha HxWx4, BGRA; uint8.

    Attributes:
        path: The file.
        info: What ffprobe says about a PNG; None for others.
        container: The key of `CONTAINERS` whose results are like it.
        width, height: In pixels.
        alpha: Whether any pixel is not opaque; of frames that were taken, whether they come out with transparency.
        soft: Whether any is neither opaque nor fully transparent.
        plays: How often it is played; 0: for ever.
        numbers: The numbers of the frames that come out, ascending; one may repeat.
        times: When each of them is shown, and at last when the last one ends, in seconds.
        profile: Its colour profile, or None.
        lossless: Whether it is a WebP without lossy frames.
        damage: The first sign of damage, after the last frame that can be decoded.
        ffmpeg: The programs, once it is open.
    """

    path: Path
    info: MediaInfo | None
    container: str
    width: int
    height: int
    alpha: bool
    soft: bool
    plays: int
    numbers: tuple[int, ...]
    times: tuple[Fraction, ...]
    profile: bytes | None = None
    lossless: bool = False
    damage: Damage | None = None
    ffmpeg: FFmpeg | None = None

    @property
    def durations(self) -> list[Fraction]:
        """Seconds for which each frame is shown."""
        return [after - before for before, after in pairwise(self.times)]

    def take(self, first: int, stop: int | None, *, alpha: bool) -> Self:
        """Return the frames that come out from number `first` up to `stop`, or to the end, without their times."""
        return replace(self, numbers=self.numbers[first:stop], times=(), alpha=alpha, damage=None)

    def open(self, ffmpeg: FFmpeg) -> Self:
        """Return frames that can be read, again and again."""
        return replace(self, ffmpeg=ffmpeg)

    def __iter__(self) -> Iterator[np.ndarray]:
        assert self.ffmpeg is not None, 'open() comes first'
        at = 0
        try:
            for number, (pixels, _) in enumerate(_decode(self.ffmpeg, self.path, self.info)):
                while self.numbers[at] == number:
                    yield np.ascontiguousarray(pixels[..., :3 + self.alpha])
                    at += 1
                    if at == len(self.numbers):
                        return
        except _DamageError as error:
            raise MediaError(f'{self.path}: {error}; it has changed since it was looked at') from None

    @property
    def rate(self) -> Fraction:
        """The mean number of frames a second, from 1 to 60, a whole number; or exactly that of a constant rate.

        Of more than 240 it is the mean, for parts have clocks of a thousandth.
        """
        lengths = set(self.durations)
        if len(lengths) == 1 and min(lengths) >= Fraction(1, 240):
            return 1 / min(lengths)
        return Fraction(min(max(round(len(self.numbers) / (self.times[-1] - self.times[0] or 1)), 1), 60))


def find_kind(path: Path, *, still: bool = False) -> str:
    """Return Pillow's name of the format of an animated picture; '' if a file is none.

    Args:
        path: The file.
        still: Whether a single picture of such a format counts too.
    """
    if path.suffix[1:].lower() in EXTENSIONS or not path.suffix:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter('ignore')
                with Image.open(path, formats=list(KINDS)) as image:
                    if still or getattr(image, 'is_animated', False):
                        return str(image.format)
        except (UnidentifiedImageError, Image.DecompressionBombError):
            pass
        except Exception as error:  # Pillow's plugins raise nearly anything when a file is damaged
            logger.debug('%s: %s', path, error)
    return ''


def read_animation(ffmpeg: FFmpeg, path: Path, info: MediaInfo | None, max_pixels: int,
                   check: Check = lambda: None) -> Animation:
    """Look at all frames of an animated picture, as far as they can be decoded.

    Args:
        ffmpeg: The programs.
        path: The file.
        info: What ffprobe says about it; needed for PNG only.
        max_pixels: How many pixels a frame may have.
        check: Called for each frame.

    Raises:
        VideoError: it has too many pixels.
        MediaError: no frame can be decoded.
        OSError: it can't be read.
    """
    least, alphas, durations, damage = 255, set[int](), list[Fraction](), None
    try:
        with _open(path) as image:
            try:
                require_few_pixels(image.height, image.width, max_pixels)
            except ImageError as error:
                raise VideoError(f'{path}: {error}') from None
            plays, profile, kind = _find_plays(image, path), image.info.get('icc_profile'), str(image.format)
            width, height = image.size
        _warn_of_depth(path, kind)
        for pixels, duration in _decode(ffmpeg, path, info if kind == 'PNG' else None):
            check()
            least = min(least, int(pixels[..., 3].min()))
            if least < 255 and len(alphas) < 3:
                alphas |= set(np.unique(pixels[..., 3]).tolist())
            durations.append(duration)
    except _DamageError as error:
        if not durations:
            raise MediaError(f'{path}: no frame could be decoded: {error}') from None
        damage = Damage(len(durations), str(error))
    if damage is None and kind in ('GIF', 'PNG') and not _is_whole(path.read_bytes(), kind, len(durations)):
        damage = Damage(len(durations), 'the file ends before its last frame')
    times = tuple(accumulate(durations, initial=Fraction(0)))
    return Animation(path, info if kind == 'PNG' else None, KINDS[kind], width, height, least < 255,
                     not alphas <= {0, 255}, plays, tuple(range(len(durations))), times, profile,
                     kind == 'WEBP' and b'VP8 ' not in path.read_bytes(), damage)


class _DamageError(Exception):
    """A frame can't be decoded."""


def _decode(ffmpeg: FFmpeg, path: Path, info: MediaInfo | None) -> Iterator[tuple[np.ndarray, Fraction]]:
    """Yield each frame as HxWx4, BGRA, uint8, and for how many seconds it is shown.

    Args:
        ffmpeg: The programs.
        path: The file.
        info: What ffprobe says about a PNG, whose soft frames ffmpeg lays over each other exactly and Pillow does not
            (https://www.w3.org/TR/png-3/#13Alpha-channel-processing); None for others.

    Raises:
        _DamageError: one can't be decoded.
        OSError: the file can't be read.
    """
    if info is not None:
        with FrameReader(ffmpeg, info, Decoding(Fraction(1), alpha=True)) as reader:
            for pixels, duration in zip(reader, _read_apng_times(path.read_bytes())[1], strict=False):
                yield pixels if pixels.dtype == np.uint8 else np.rint(pixels / 257).astype(np.uint8), duration
        if reader.damage is not None:
            raise _DamageError(reader.damage.reason)
        return
    with _open(path) as image:
        for number in count():
            try:
                image.seek(number)
                pixels = np.asarray(image.convert('RGBA'))
            except EOFError:
                if number < getattr(image, 'n_frames', number):
                    raise _DamageError('the file ends before its last frame') from None
                return
            except Exception as error:  # Pillow's plugins raise nearly anything when a file is damaged
                raise _DamageError(flatten_message(error)) from None
            yield pixels[..., [2, 1, 0, 3]], max(Fraction(image.info.get('duration', 0)), Fraction(0)) / 1000


def _open(path: Path) -> Image.Image:
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None  # `require_few_pixels` judges the size
        try:
            return Image.open(path, formats=list(KINDS))
        except OSError:
            raise
        except Exception as error:  # Pillow's plugins raise nearly anything when a file is damaged
            raise _DamageError(flatten_message(error)) from None
        finally:
            Image.MAX_IMAGE_PIXELS = limit


def _is_whole(data: bytes, kind: str, frames: int) -> bool:
    """Tell whether a GIF or PNG has its end mark, and an APNG as many frames as it promises."""
    if kind == 'GIF':
        return any(block == 0x3B for block, _ in _list_blocks(data))
    chunks = {name: at for name, at, _ in _list_chunks(data)}
    promised = struct.unpack_from('>I', data, chunks[b'acTL'])[0] if b'acTL' in chunks else 1
    return b'IEND' in chunks and frames >= promised


def _list_blocks(data: bytes | bytearray) -> Iterator[tuple[int, int]]:
    """Yield the type of each block of a GIF (image, extension or end mark), and where it begins.

    See https://www.w3.org/Graphics/GIF/spec-gif89a.txt.
    """
    def count_colours(flags: int) -> int:
        return 3 << (flags & 7) + 1 if flags & 0x80 else 0

    with suppress(IndexError):  # it is cut off
        at = 13 + count_colours(data[10])
        while data[at] != 0x3B:
            if data[at] not in (0x21, 0x2C):  # stray bytes, which viewers skip
                at += 1
                continue
            yield data[at], at
            at += 2 if data[at] == 0x21 else 11 + count_colours(data[at + 9])
            while data[at]:  # the length of a piece
                at += 1 + data[at]
            at += 1
        yield data[at], at


def _read_apng_times(data: bytes) -> tuple[int, list[Fraction]]:
    """Return how often an APNG is played, and for how many seconds each frame is shown; of a plain PNG 0 and [0]."""
    plays, durations = 0, []
    for name, at, length in _list_chunks(data):
        if name == b'acTL' and length >= 8:
            plays = struct.unpack_from('>I', data, at + 4)[0]
        elif name == b'fcTL' and length >= 24:
            numerator, denominator = struct.unpack_from('>HH', data, at + 20)
            durations.append(Fraction(numerator, denominator or 100))
    return plays, durations or [Fraction(0)]


def _list_chunks(data: bytes | bytearray) -> Iterator[tuple[bytes, int, int]]:
    """Yield the name of each chunk of a PNG, where its content begins, and its length."""
    at = 8
    while at + 8 <= len(data):
        length, name = struct.unpack_from('>I4s', data, at)
        if at + 12 + length <= len(data):
            yield name, at + 8, length
        at += 12 + length


def _find_plays(image: Image.Image, path: Path) -> int:
    """Return how often an animation is played. GIF counts repeats, and plays once where it says nothing."""
    loop = image.info.get('loop')
    if image.format == 'PNG':
        return _read_apng_times(path.read_bytes())[0]
    if image.format != 'GIF':
        return int(loop or 0)
    return 1 if loop is None else loop + 1 if loop else 0


def _warn_of_depth(path: Path, kind: str) -> None:
    with path.open('rb') as file:
        beginning = file.read(4096)
    start = beginning.find(b'av1C')
    if (kind == 'PNG' and beginning[24] == 16) or (kind == 'AVIF' and start >= 0 and beginning[start + 6] & 0x60):
        logger.warning('%s: its frames of more than 8 bits are read as 8', path)


def select(animation: Animation, options: VideoOptions) -> Animation:
    """Return an animation with the frames and times that come out.

    They are those between --start and --end, and keep their times; but at the rate of --fps, or in a container of
    films, frames are repeated, or dropped, on the ticks of a constant rate. Frames of a hundredth of a second and less
    are then shown for a tenth, as browsers do.

    Raises:
        VideoError: no frame is between --start and --end.
    """
    numbers, times = list(animation.numbers), list(animation.times)
    if options.start is not None or options.end is not None:
        start, end = options.start or Fraction(0), times[-1] + 1 if options.end is None else options.end
        kept = [number for number in numbers if start <= times[number] < end]
        if not kept:
            raise VideoError(f'{animation.path}: no frame begins between --start and --end')
        times = [*times[kept[0]:kept[-1] + 1], min(times[kept[-1] + 1], end)]
        times, numbers = [time - times[0] for time in times], kept
    if options.fps is not None or not CONTAINERS[options.container].is_animation:
        shown = [after - before if after - before > _HARDLY_SHOWN else _SHOWN_INSTEAD
                 for before, after in pairwise(times)]
        times = list(accumulate(shown, initial=Fraction(0)))
        clock = math.lcm(*(time.denominator for time in times))
        stamps = TimeStamps(tuple(int(time * clock) for time in times[:-1]), Fraction(1, clock), complete=True,
                            packets=len(numbers), end=int(times[-1] * clock))
        rate = options.fps or choose_timeline(stamps, None, None, times[-1]).rate
        total = stamps.count_ticks(rate, drop=options.fps is not None)
        ticks, ending = [], -1
        for time in times[:-1]:
            ending = math.floor(time * rate + Fraction(1, 2)) if options.fps is not None else max(
                math.floor(time * rate + Fraction(1, 2)), ending + 1)
            ticks.append(ending)
        at, ticked = 0, []
        for tick in range(total):
            while at + 1 < len(ticks) and ticks[at + 1] <= tick:
                at += 1
            ticked.append(numbers[at])
        numbers, times = ticked, [number / rate for number in range(total + 1)]
    return replace(animation, numbers=tuple(numbers), times=tuple(times))


# ---- writing ----

def write_animation(ffmpeg: FFmpeg, parts: Path, frames: Callable[[], Iterable[np.ndarray]], target: Path,
                    container: str, times: Sequence[Fraction], *, alpha: bool, plays: int = 0,
                    profile: bytes | None = None, lossless: bool = False, check: Check = lambda: None) -> None:
    """Write the frames of parts as an animated picture; after an error the file may be there in part.

    Args:
        ffmpeg: The programs.
        parts: The list of the parts (see `mux.write_list`).
        frames: Returns the same frames, HxWx3 or HxWx4.
        target: The file.
        container: 'gif', 'apng' or 'webp'.
        times: When each frame is shown, and at last when the last one ends, in seconds.
        alpha: Whether they have transparency.
        plays: How often it is played; 0: for ever.
        profile: A colour profile, which WebP holds; for others a warning says that it is left out.
        lossless: Whether a WebP is written without loss; else each frame is lossy or not, whichever is smaller.
        check: Called several times a second; what it raises ends the work.

    Raises:
        MediaError: ffmpeg or Pillow failed.
        OSError: the file can't be written.
    """
    if profile and container != 'webp':
        logger.warning('its colour profile is left out; --ext webp keeps it')
    if container == 'webp':
        _write_webp(frames(), target, _round_times(times, 1000, _MOST_WEBP_DELAY), plays, profile,
                    lossless=lossless, check=check)
        return
    whole = [part for name, value in ffmpeg.passthrough.items() for part in (f'-{name}', value)]

    def convert(name: str, *arguments: str) -> Path:
        """Write the parts to a file beside the target, with further inputs, filters and options; return its path."""
        file = target.with_name(name)
        run([*ffmpeg.base_command, '-y', '-f', 'concat', '-i', parts.name, *arguments, *whole, '-enc_time_base',
             f'1/{_NOMINAL_RATE}', f'file:{file.absolute()}'], parts.parent, check)
        return file
    if container == 'gif':
        loop = '-1' if plays == 1 else str(max(plays - 1, 0))
        made = _write_gif(ffmpeg, convert, frames, ['-loop', loop, '-f', 'gif'])
    else:  # flat drawings are smaller without prediction, photos with it
        made = min((convert(f'{prediction}.apng', '-vf', f'{_TICK},format={"rgba" if alpha else "rgb24"}', '-pred',
                            prediction, '-plays', str(plays), '-f', 'apng') for prediction in ('none', 'mixed')),
                   key=lambda file: file.stat().st_size)
    made.replace(target)
    if container == 'gif':
        _set_gif_delays(target, _round_times(times, 100, _MOST_DELAY))
    else:
        _set_apng_delays(target, times)


def _write_gif(ffmpeg: FFmpeg, convert: Callable[..., Path], frames: Callable[[], Iterable[np.ndarray]],
               options: Sequence[str]) -> Path:
    """Write a GIF with one palette, and one with a palette for each frame; return the better one.

    The latter is better if it is smaller, or worth its bytes: its mean squared error at most half as large.
    """
    palette = convert('palette.png', '-vf', 'palettegen', '-frames:v', '1', '-update', '1', '-f', 'image2')
    one = convert('one.gif', '-i', f'file:{palette.absolute()}', '-filter_complex',
                  f'[0:v]{_TICK}[frames];[frames][1:v]paletteuse=diff_mode=rectangle', *options)
    many = convert('many.gif', '-filter_complex', f'{_TICK},split[frames][some];[some]palettegen=stats_mode=single'
                   '[palettes];[frames][palettes]paletteuse=new=1', *options)
    if many.stat().st_size <= one.stat().st_size:
        return many
    errors = np.zeros(2)
    for frame, *pair in zip(frames(), _decode(ffmpeg, one, None), _decode(ffmpeg, many, None), strict=False):
        errors += [np.square(pixels[..., :3] - frame[..., :3].astype(np.float32))[pixels[..., 3] > 0].sum()
                   for pixels, _ in pair]
    return many if errors[1] < errors[0] / 2 else one


def _round_times(times: Sequence[Fraction], clock: int, most: int) -> list[int]:
    """Return durations in ticks of a clock, whose rounding does not add up; longer ones than `most` are cut."""
    ticks = [math.floor(time * clock + Fraction(1, 2)) for time in times]
    lengths = [after - before for before, after in pairwise(ticks)]
    if max(lengths) > most:
        logger.warning('a frame is shown for %.0f s, and the format holds %.0f s', max(lengths) / clock, most / clock)
    return [min(length, most) for length in lengths]


def _write_webp(frames: Iterable[np.ndarray], target: Path, milliseconds: list[int], plays: int,
                profile: bytes | None, *, lossless: bool, check: Check) -> None:
    def convert() -> Iterator[Image.Image]:
        for frame in frames:
            check()
            yield Image.fromarray(np.ascontiguousarray(frame[..., [2, 1, 0, 3][:frame.shape[2]]]))
    images = convert()
    try:  # without key frames, which triple the size of what moves little; where it is lossless, quality is effort
        next(images).save(target, 'WEBP', save_all=True, append_images=images, duration=milliseconds, loop=plays,
                          lossless=lossless, quality=_WEBP_QUALITY, method=4, allow_mixed=not lossless, kmin=0, kmax=0,
                          icc_profile=profile or b'')
    except (ValueError, SystemError, RuntimeError) as error:
        raise MediaError(f'libwebp failed: {flatten_message(error)}') from None


def _set_gif_delays(path: Path, delays: Sequence[int]) -> None:
    """Put the duration of each frame, in hundredths of a second, into the extension before it.

    Raises:
        MediaError: it has another number of frames.
    """
    data, number = bytearray(path.read_bytes()), 0
    for block, at in _list_blocks(data):
        if block == 0x2C:  # an image
            number += 1
        elif block == 0x21 and data[at + 1] == 0xF9 and number < len(delays):
            struct.pack_into('<H', data, at + 4, delays[number])
    _require_frames(number, len(delays))
    path.write_bytes(data)


def _set_apng_delays(path: Path, times: Sequence[Fraction]) -> None:
    """Put the duration of each frame into its chunk fcTL, as an exact fraction where there is one of 16 bits.

    See https://www.w3.org/TR/png-3/#fcTL-chunk. A file of one frame may be a plain PNG.

    Raises:
        MediaError: it has another number of frames.
    """
    data, number = bytearray(path.read_bytes()), 0
    thousandths = _round_times(times, 1000, _MOST_DELAY)
    exact = [after - before for before, after in pairwise(times)]
    for name, at, length in _list_chunks(data):
        if name == b'fcTL':
            if number < len(exact):
                numerator, denominator = exact[number].as_integer_ratio()
                if max(numerator, denominator) > _MOST_DELAY:
                    numerator, denominator = thousandths[number], 1000
                struct.pack_into('>HH', data, at + 20, numerator, denominator)
                struct.pack_into('>I', data, at + length, zlib.crc32(data[at - 4:at + length]))
            number += 1
    if number or len(exact) > 1:
        _require_frames(number, len(exact))
    path.write_bytes(data)


def _require_frames(found: int, wanted: int) -> None:
    if found != wanted:
        raise MediaError(f'ffmpeg has written {found} frames of {wanted}')
