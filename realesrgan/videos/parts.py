"""The folder beside a result in which its parts wait until all are there, so that an interrupted run can be resumed.

Each part is called by the number of its first frame and has a note beside it. Where frames take long, the finished ones
of a part in progress are kept in files of their own. How much room all this needs is estimated here, too.
"""
from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import re
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Self

import cv2
import numpy as np
from filelock import FileLock, Timeout

from ..errors import DiskFullError, PartsError
from ..ffmpeg.decoder import Damage
from ..ffmpeg.encoder import Encoding
from ..files import (
    TEMPORARY_PREFIX,
    format_size,
    hash_file,
    hash_samples,
    measure_free_disk,
    read_json,
    whole_file,
    write_through,
)
from ..options import VideoOptions, list_options
from ..version import __version__

logger = logging.getLogger(__name__)

_CHECKSUM_BYTES = hashlib.sha256().digest_size
_SAMPLE_BYTES = 1 << 20
_MANIFEST, _LOCK = 'manifest.json', 'lock'
_FRAME = 'raw'  # the extension of frames that are kept one by one
#: The other tracks of a source that can be read once only, and the list of the parts, for joining them.
TRACKS, LIST = 'tracks.mkv', 'parts.ffconcat'
_PART_FILE = re.compile(r'\d{6,}\.\w+')
_OURS = re.compile(rf'{_PART_FILE.pattern}|{_MANIFEST}|{TRACKS}|{LIST}')
#: What is left to others; below it a run stops while everything can still be closed in order.
RESERVE_BYTES = 64 << 20
# Bits for a pixel as libx264 makes of films at its default crf of 23; six steps of crf double them.
_USUAL_BITS, _USUAL_CRF, _CRF_TO_DOUBLE = 0.1, 23, 6
_MOST_BITS = 8.0
_LARGE_CODECS = ('ffv1', 'huffyuv', 'ffvhuff', 'utvideo', 'prores', 'dnxhd', 'rawvideo', 'png', 'magicyuv', 'cfhd')


# ---- the run that parts belong to ----

# Options that parts don't depend on: the tiles of max_memory hardly show, of the weights the content counts, not the
# path, and of ext the container.
_NO_MATTER = frozenset((
    'model_path', 'max_memory', 'gpu_id', 'suffix', 'skip_existing', 'keep_dates', 'max_pixels', 'alpha_upsampler',
    'cluster', 'cpus_per_worker', 'compare', 'log', 'ext', 'ffmpeg_bin', 'num_process_per_gpu', 'restart', 'keep_parts',
    'dry_run', 'hwaccel'))


def describe_run(ffmpeg_version: Sequence[int], source: Mapping[str, Any], weights: str,
                 options: VideoOptions) -> dict[str, Any]:
    """Return everything that parts depend on, by the names of the options: parts of an equal run may be reused.

    Args:
        ffmpeg_version: Of the encoder.
        source: The result of `identify_files` for the input.
        weights: Their fingerprint.
        options: The caller's.
    """
    given = {name: getattr(options, name) for name, option in list_options(VideoOptions).items()
             if name not in _NO_MATTER and (option.group != 'faces' or options.face_enhance)}
    return {'version': __version__, 'ffmpeg': '.'.join(map(str, ffmpeg_version)), **source, 'weights': weights,
            'container': options.container, **({'opencv': cv2.__version__} if options.steady else {}),
            **{name: value if value is None or isinstance(value, (bool, int, str)) else
               f'{value:g}' if isinstance(value, float) else str(value) for name, value in given.items()}}


def identify_files(files: Sequence[Path]) -> dict[str, Any]:
    """Return sizes, the last time, and hashes of samples: they tell files from others of the same names.

    Raises:
        OSError: one can't be read.
    """
    digest = hashlib.sha256()
    size, newest = 0, 0.0
    for path in files:
        status = path.stat()
        size += status.st_size
        newest = max(newest, status.st_mtime)
        length = _SAMPLE_BYTES if len(files) == 1 else _SAMPLE_BYTES // 64
        digest.update(f'{path.name}\0{hash_samples(path, length)}\0'.encode(errors='surrogateescape'))
    return {'source': files[0].name if len(files) == 1 else f'{len(files)} pictures', 'bytes': size,
            'modified': datetime.fromtimestamp(newest).isoformat(' '), 'content': digest.hexdigest()[:16]}


# ---- parts ----

@dataclass(frozen=True)
class Part:
    """A part that is whole.

    Attributes:
        first: The number of its first frame in the video.
        frames: How many it holds.
        computed: How many of them went through the network.
        is_last: Whether its chunk ends with it.
        damage: The first sign of damage in its chunk, by the number in the chunk; only of the last part.
        flicker: The second, and the values of a `Flicker` of it, where any was measured.
    """

    first: int
    frames: int
    computed: int
    is_last: bool
    damage: Damage | None = None
    flicker: tuple[tuple[int, tuple[float, ...]], ...] = ()

    @property
    def stop(self) -> int:
        """The number after that of its last frame."""
        return self.first + self.frames

    @classmethod
    def from_note(cls, note: Mapping[str, Any]) -> Self:
        """Read a part back from the note that `Parts.seal` wrote."""
        damage = note['damage']
        return cls(note['first'], note['frames'], note['computed'], note['is_last'],
                   Damage(**damage) if damage else None,
                   tuple((second, tuple(values)) for second, values in note['flicker']))


class Parts:
    """The parts of one result. `open_parts` returns it for a run, whose workers pass it on.

    Attributes:
        folder: Where they are.
        extension: Of the parts.
    """

    def __init__(self, folder: Path, extension: str) -> None:
        self.folder = folder
        self.extension = extension

    def path(self, first: int, extension: str = '') -> Path:
        """Return the path of the part that begins with a frame; it exists when the part is whole."""
        return self.folder / f'{first:08}.{extension or self.extension}'

    def note(self, first: int) -> dict[str, Any] | None:
        """Return the note that `seal` wrote about a part; None if the part is not whole, or the note is not."""
        path = self.path(first)
        note = read_json(path.with_suffix('.json'))
        intact = note.pop('checksum', None) == _hash_note(note)
        return note if intact and path.exists() and path.stat().st_size == note.get('bytes') else None

    def seal(self, part: Part, temporary: Path) -> None:
        """Prepare a finished part for being renamed from `temporary` to its path, after which it counts as whole.

        When this returns, its content is on the disk, and a note with its size and checksum in a file beside it.
        """
        write_through(temporary)
        note = {**asdict(part), 'bytes': temporary.stat().st_size, 'sha256': hash_file(temporary)}
        with whole_file(self.path(part.first).with_suffix('.json')) as file:
            file.write_text(json.dumps({**note, 'checksum': _hash_note(note)}))

    def is_intact(self, first: int) -> bool:
        """Return whether a whole part still holds what was written; reads all of it.

        After a loss of power, or on a failing disk, a file may keep its size and lose its content.
        """
        note = self.note(first)
        return note is not None and note.get('sha256') == hash_file(self.path(first))

    def find(self, first: int = 0, stop: int | None = None) -> list[Part]:
        """Return the whole parts that begin with frames from `first` up to `stop`, in order; none overlaps another."""
        found: list[Part] = []
        for number in self._list_numbers(self.extension):
            if first <= number < (sys.maxsize if stop is None else stop):
                note = self.note(number)
                if note is not None:
                    found.append(Part.from_note(note))
                    first = found[-1].stop
        return found

    # ---- frames of a part in progress ----

    def keep_frame(self, number: int, source: np.ndarray, result: np.ndarray) -> None:
        """Keep a frame, whose source and result are given, until the part that holds it is whole.

        Raises:
            OSError: it can't be written.
        """
        with whole_file(self.path(number, _FRAME)) as file, file.open('wb') as opened:
            opened.write(_hash_frame(source, result))
            opened.write(np.ascontiguousarray(result).data)

    def load_frame(self, number: int, source: np.ndarray, encoding: Encoding) -> np.ndarray | None:
        """Return the result of a frame if it was kept, is intact and was made of this source; else None."""
        try:
            data = bytearray(self.path(number, _FRAME).read_bytes())
        except OSError:
            return None
        pixels = np.frombuffer(data, np.uint8, offset=min(len(data), _CHECKSUM_BYTES))
        if _hash_frame(source, pixels) != data[:_CHECKSUM_BYTES]:
            return None
        dtype = np.uint16 if encoding.dtype_is_deep else np.uint8
        return pixels.view(dtype).reshape(encoding.height, encoding.width, encoding.channels)

    def list_frames(self) -> list[int]:
        """Return the numbers of the frames that are kept."""
        return self._list_numbers(_FRAME)

    def drop_frames(self, first: int, stop: int) -> None:
        """Remove the frames from `first` up to `stop`, which a part holds by now."""
        for number in self.list_frames():
            if first <= number < stop:
                self.path(number, _FRAME).unlink(missing_ok=True)

    def _list_numbers(self, extension: str) -> list[int]:
        return sorted(int(path.stem) for path in self.folder.glob(f'{"[0-9]" * 8}*.{extension}') if path.stem.isdigit())

    def describe(self) -> str:
        """Return how many parts and frames are kept, in words; '' if none are."""
        parts, frames = len(self.find()), len(self.list_frames())
        return ' and '.join(count(number, noun) for number, noun in ((parts, 'part'), (frames, 'frame')) if number)


def count(number: int, noun: str) -> str:
    """Return a number with its noun."""
    return f'{number} {noun}{"s" * (number != 1)}'


def _hash_frame(source: np.ndarray, result: np.ndarray) -> bytes:
    """Return the checksum of a frame and its result."""
    digest = hashlib.sha256(np.ascontiguousarray(source).data)
    digest.update(np.ascontiguousarray(result).data)
    return digest.digest()


def _hash_note(note: Mapping[str, Any]) -> str:
    """Return the checksum of a note itself."""
    return hashlib.sha256(json.dumps(note, sort_keys=True).encode()).hexdigest()[:16]


# ---- the folder ----

def get_parts_folder(target: Path) -> Path:
    """Return the folder for the parts of a result."""
    return target.with_name(f'{target.stem}_parts')


def find_reusable(target: Path, extension: str, manifest: Mapping[str, Any]) -> list[Part]:
    """Return the parts that a run would find; see `OpenParts`."""
    parts = Parts(get_parts_folder(target), extension)
    found = read_json(parts.folder / _MANIFEST)
    return parts.find() if found and not _list_differences(found, manifest) else []


class OpenParts:
    """The folder of parts of a result, `NAME_parts` beside it, opened for this run alone.

    Args:
        target: The result.
        extension: Of the parts.
        manifest: See `describe_run`.
        restart: Whether parts of a different run are thrown away.

    Attributes:
        parts: What workers get of it.

    Raises:
        PartsError: another run has it open, or it holds parts of a different run; the message says what differs.
        OSError: it can't be made.
    """

    def __init__(self, target: Path, extension: str, manifest: Mapping[str, Any], *, restart: bool = False) -> None:
        folder = get_parts_folder(target)
        folder.mkdir(parents=True, exist_ok=True)
        self._lock = FileLock(folder / _LOCK, thread_local=False)  # one thread opens it, another closes it
        try:
            self._lock.acquire(timeout=0)
        except Timeout:
            raise PartsError(f'{target}: another run is writing it; wait until it ends, or choose another --suffix or '
                             '-o') from None
        self.parts = Parts(folder, extension)
        try:
            _prepare_folder(folder, manifest, target, restart=restart)
        except BaseException:
            self._unlock()
            raise

    def close(self, *, keep: bool) -> None:
        """Remove the folder, unless it is to be kept and holds a part or a frame."""
        try:
            _remove_temporary_files(self.parts.folder)
            if not keep or not self.parts.describe():
                _empty_folder(self.parts.folder)
        except OSError as error:  # the result is there, or another error is on its way
            logger.warning('%s can\'t be removed: %s', error.filename or self.parts.folder, error.strerror)
        finally:
            self._unlock()

    def _unlock(self) -> None:
        folder = self.parts.folder
        is_used_up = not (folder / _MANIFEST).exists()
        if is_used_up:  # while we hold the lock, or it could be another run's by now
            with contextlib.suppress(OSError):  # Windows does not delete an open file, but filelock does when it closes
                (folder / _LOCK).unlink(missing_ok=True)
        self._lock.release()
        if is_used_up:
            with contextlib.suppress(OSError):
                folder.rmdir()


def _prepare_folder(folder: Path, manifest: Mapping[str, Any], target: Path, *, restart: bool) -> None:
    """Check that the parts in the folder may be reused, or make room for new ones.

    Raises:
        PartsError: the folder holds something else.
    """
    _remove_temporary_files(folder)
    file = folder / _MANIFEST
    if not file.exists() and {path.name for path in folder.iterdir()} - {_LOCK}:
        raise PartsError(f'{folder}: can\'t be used for the parts of {target.name}: it contains other files; '
                         'move it away, or choose another --suffix or -o')
    found = read_json(file)
    differences = _list_differences(found, manifest)
    if restart or not found or differences:
        if found and not restart and any(_PART_FILE.fullmatch(path.name) and path.suffix != '.json'
                                         for path in folder.iterdir()):
            raise PartsError(f'{folder}: holds parts of another run: {differences}. Repeat that run to finish '
                             f'{target.name}, or start anew with --restart')
        _empty_folder(folder)
        with whole_file(file) as temporary:
            temporary.write_text(json.dumps(manifest, indent=1))


def _list_differences(found: Mapping[str, Any], wanted: Mapping[str, Any]) -> str:
    """Return the differences, or ''; an option that only one of them knows differs unless it was not given."""
    names = [name for name in dict.fromkeys([*wanted, *found]) if found.get(name) != wanted.get(name)]
    return ', '.join(f'{name} was {_shorten(found.get(name))}, is {_shorten(wanted.get(name))}' for name in names)


def _shorten(value: object) -> str:
    text = 'not given' if value is None else str(value)
    return text if len(text) <= 60 else f'{text[:60]}...'


def _remove_temporary_files(folder: Path) -> None:
    """Remove temporary files that killed runs have left behind."""
    for path in folder.glob(f'{TEMPORARY_PREFIX}*'):
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def _empty_folder(folder: Path) -> None:
    # The manifest goes last: if this is interrupted, it still marks the folder as ours.
    for path in sorted(folder.iterdir(), key=lambda path: path.name == _MANIFEST):
        if _OURS.fullmatch(path.name):
            path.unlink()


# ---- room on the disk ----

def estimate_result_size(encoding: Encoding, frames: int) -> int:
    """Estimate the size of a video; films differ by more than a factor of two either way."""
    bits = _USUAL_BITS
    if encoding.crf is not None:
        bits *= 2 ** ((_USUAL_CRF - encoding.crf) / _CRF_TO_DOUBLE)
    if any(name in encoding.codec for name in _LARGE_CODECS):
        bits = _MOST_BITS
    return int(encoding.width * encoding.height * frames * min(bits, _MOST_BITS) / 8)


def estimate_extracted_size(width: int, height: int, frames: int, *, deep: bool) -> int:
    """Estimate the size of frames as png files: half of their pixels."""
    return width * height * 3 * (1 + deep) * frames // 2


def check_room(folder: Path, needed: int = 0, purpose: str = '') -> None:
    """Check that `needed` bytes can be written and the reserve stays.

    Args:
        folder: Where they go.
        needed: How many; of the next frames no more than the reserve holds.
        purpose: What they are for; '' for the next frames.

    Raises:
        DiskFullError: they can't.
    """
    free = measure_free_disk(folder)
    if free < needed + RESERVE_BYTES:
        purpose = purpose or f'the next frames ({format_size(RESERVE_BYTES)} stay free)'
        raise DiskFullError(f'{folder}: the disk has {format_size(free)} left, too little for {purpose}. Make room and '
                            'run the same command again: it resumes from the finished parts')
