"""The folder beside a result in which its parts wait until all are there, so that an interrupted run can be resumed."""
from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import re
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Self

import numpy as np
from filelock import FileLock, Timeout

from ..atomic_files import TEMPORARY_PREFIX, whole_file, write_through
from ..errors import PartsError
from ..ffmpeg.decoder import Damage
from ..version import __version__
from ..weights.download import hash_file
from ..workers.options import FaceOptions
from .options import VideoOptions

logger = logging.getLogger(__name__)

_SAMPLE_BYTES = 1 << 20
_MANIFEST, _LOCK = 'manifest.json', 'lock'
#: The other tracks of a source that can be read once only, and the list of the parts, for joining them.
TRACKS, LIST = 'tracks.mkv', 'parts.ffconcat'
_CHECKSUM_BYTES = hashlib.sha256().digest_size
_FRAME = 'raw'  # the extension of frames that are kept one by one
_PART_FILE = re.compile(r'\d{6,}\.\w+')
_OURS = re.compile(rf'{_PART_FILE.pattern}|{_MANIFEST}|{TRACKS}|{LIST}')


# ---- what parts depend on ----

def describe_run(ffmpeg_version: Sequence[int], source: Mapping[str, Any], weights: str, options: VideoOptions,
                 faces: FaceOptions | None) -> dict[str, Any]:
    """Return everything that parts depend on, by the names of the options: parts of an equal run may be reused.

    Not in it: the device and the number of workers, `max_memory`, whose tiles hardly show, and the paths of the
    weights and of `arch_module`, whose content counts.

    Args:
        ffmpeg_version: Of the encoder.
        source: What `identify_files` says about the input.
        weights: Their fingerprint.
        options: The caller's.
        faces: How faces are restored, or None.
    """
    upsampler = asdict(options.upsampler)
    del upsampler['model_path'], upsampler['max_memory']
    if options.upsampler.arch_module is not None:
        upsampler['arch_module'] = hash_file(Path(options.upsampler.arch_module))[:16]
    video = {name: getattr(options, name) for name in (
        'outscale', 'fps', 'start', 'end', 'deinterlace', 'extract_first', 'chunk', 'container', 'codec', 'crf',
        'preset', 'pixel_format')}
    return {'version': __version__, 'ffmpeg': '.'.join(map(str, ffmpeg_version)), **source, 'weights': weights,
            **upsampler, 'faces': asdict(faces) if faces else None,
            **{name: f'{value:g}' if isinstance(value, float) else value if value is None else str(value)
               for name, value in video.items()}}


def identify_files(files: Sequence[Path]) -> dict[str, Any]:
    """Return what tells files from others of the same names: sizes, the last time, and samples of the content.

    Raises:
        OSError: one can't be read.
    """
    digest = hashlib.sha256()
    size, newest = 0, 0.0
    for path in files:
        status = path.stat()
        size += status.st_size
        newest = max(newest, status.st_mtime)
        digest.update(f'{path.name}\0{status.st_size}\0'.encode(errors='surrogateescape'))
        with path.open('rb') as file:
            for position in sorted({0, status.st_size // 2, max(status.st_size - _SAMPLE_BYTES, 0)}):
                file.seek(position)
                digest.update(file.read(_SAMPLE_BYTES if len(files) == 1 else _SAMPLE_BYTES // 64))
    return {'source': files[0].name if len(files) == 1 else f'{len(files)} pictures', 'bytes': size,
            'modified': datetime.fromtimestamp(newest).isoformat(' '), 'content': digest.hexdigest()[:16]}


# ---- the folder ----

@dataclass(frozen=True)
class Part:
    """A part that is whole.

    Attributes:
        first: The number of its first frame in the video.
        frames: How many it holds.
        computed: How many of them went through the network.
        is_last: Whether its chunk ends with it.
        damage: The first sign of damage in its chunk, by the number in the chunk; only of the last part.
    """

    first: int
    frames: int
    computed: int
    is_last: bool
    damage: Damage | None = None

    @property
    def stop(self) -> int:
        """The number after that of its last frame."""
        return self.first + self.frames

    def to_note(self) -> dict[str, Any]:
        """Return it as simple values, for the folder of parts."""
        return asdict(self)

    @classmethod
    def from_note(cls, note: Mapping[str, Any]) -> Self:
        """Read it back."""
        damage = note['damage']
        return cls(note['first'], note['frames'], note['computed'], note['is_last'],
                   Damage(**damage) if damage else None)


class Parts:
    """The parts of one result, each called by its first frame, with a note beside it. `open_parts` returns one.

    Where frames take long, the finished ones of a part in progress are kept beside it, a file each.

    Attributes:
        folder: Where they are.
        extension: Of the parts.
    """

    def __init__(self, folder: Path, extension: str) -> None:
        self.folder = folder
        self.extension = extension

    def path(self, first: int) -> Path:
        """Return the path of the part that begins with a frame; it exists when the part is whole."""
        return self.folder / f'{first:08}.{self.extension}'

    def note(self, first: int) -> dict[str, Any] | None:
        """Return the note that `seal` wrote about a part; None if the part is not whole, or the note is not."""
        path = self.path(first)
        note = _read_json(path.with_suffix('.json'))
        intact = note.pop('checksum', None) == _sum_up(note)
        return note if intact and path.exists() and path.stat().st_size == note.get('bytes') else None

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
        with whole_file(self._frame_path(number)) as file, file.open('wb') as opened:
            opened.write(_sum_up_frame(source, result))
            opened.write(np.ascontiguousarray(result).data)

    def load_frame(self, number: int, source: np.ndarray, shape: tuple[int, ...],
                   dtype: np.dtype[Any]) -> np.ndarray | None:
        """Return the result of a frame if it was kept, is intact and was made of this source; else None."""
        try:
            data = bytearray(self._frame_path(number).read_bytes())
        except OSError:
            return None
        pixels = np.frombuffer(data, np.uint8, offset=min(len(data), _CHECKSUM_BYTES))
        return pixels.view(dtype).reshape(shape) if _sum_up_frame(source, pixels) == data[:_CHECKSUM_BYTES] else None

    def list_frames(self) -> list[int]:
        """Return the numbers of the frames that are kept."""
        return self._list_numbers(_FRAME)

    def drop_frames(self, first: int, stop: int) -> None:
        """Remove the frames from `first` up to `stop`, which a part holds by now."""
        for number in self.list_frames():
            if first <= number < stop:
                self._frame_path(number).unlink(missing_ok=True)

    def _frame_path(self, number: int) -> Path:
        return self.folder / f'{number:08}.{_FRAME}'

    def _list_numbers(self, extension: str) -> list[int]:
        return sorted(int(path.stem) for path in self.folder.glob(f'{"[0-9]" * 8}*.{extension}') if path.stem.isdigit())

    def describe(self) -> str:
        """Return how many parts and frames are kept, in words; '' if none are."""
        parts, frames = len(self.find()), len(self.list_frames())
        return ' and '.join(count(number, noun) for number, noun in ((parts, 'part'), (frames, 'frame')) if number)


def count(number: int, noun: str) -> str:
    """Return a number with its noun."""
    return f'{number} {noun}{"s" * (number != 1)}'


def seal(path: Path, temporary: Path, note: Mapping[str, Any]) -> None:
    """Prepare a finished part for being renamed from `temporary` to `path`, after which it counts as whole.

    When this returns, the part's content is on the disk, and a note with its size and checksum in a file beside it.
    """
    write_through(temporary)
    note = {**note, 'bytes': temporary.stat().st_size, 'sha256': hash_file(temporary)}
    with whole_file(path.with_suffix('.json')) as file:
        file.write_text(json.dumps({**note, 'checksum': _sum_up(note)}))


def _sum_up_frame(source: np.ndarray, result: np.ndarray) -> bytes:
    """Return the checksum of a frame and what was made of it."""
    digest = hashlib.sha256(np.ascontiguousarray(source).data)
    digest.update(np.ascontiguousarray(result).data)
    return digest.digest()


def _sum_up(note: Mapping[str, Any]) -> str:
    """Return the checksum of a note itself."""
    return hashlib.sha256(json.dumps(note, sort_keys=True).encode()).hexdigest()[:16]


def get_parts_folder(target: Path) -> Path:
    """Return the folder for the parts of a result."""
    return target.with_name(f'{target.stem}_parts')


def find_reusable(target: Path, extension: str, manifest: Mapping[str, Any]) -> list[Part]:
    """Return the parts that a run would find; see `open_parts`."""
    parts = Parts(get_parts_folder(target), extension)
    return parts.find() if _read_json(parts.folder / _MANIFEST) == _as_read(manifest) else []


@contextlib.contextmanager
def open_parts(target: Path, extension: str, manifest: Mapping[str, Any], *, restart: bool = False,
               keep: bool = False) -> Iterator[Parts]:
    """Open the folder of parts of a result, `NAME_parts` beside it, for this run alone.

    A clean exit removes it unless `keep` is set; any other exit removes it only if it holds no part and no frame.

    Args:
        target: The result.
        extension: Of the parts.
        manifest: See `describe_run`.
        restart: Whether parts of a different run are thrown away.
        keep: Whether the folder stays.

    Raises:
        PartsError: another run has it open, or it holds parts of a different run; the message says what differs.
        OSError: it can't be made.
    """
    folder = get_parts_folder(target)
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / _LOCK)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise PartsError(f'{target}: another run is writing it; wait until it ends, or choose another --suffix or '
                         '-o') from None
    parts = Parts(folder, extension)
    try:
        _prepare_folder(parts, _as_read(manifest), target, restart=restart)
        with _tidy_afterwards(parts, keep=keep):
            yield parts
    finally:
        used_up = not (folder / _MANIFEST).exists()
        if used_up:  # while we hold the lock, or it could be another run's by now
            with contextlib.suppress(OSError):  # Windows does not delete an open file, but filelock does when it closes
                (folder / _LOCK).unlink(missing_ok=True)
        lock.release()
        if used_up:
            with contextlib.suppress(OSError):
                folder.rmdir()


@contextlib.contextmanager
def _tidy_afterwards(parts: Parts, *, keep: bool) -> Iterator[None]:
    """Remove in the end what no other run needs."""
    finished = False
    try:
        yield
        finished = True
    finally:
        try:
            _remove_temporary_files(parts.folder)
            if (finished and not keep) or not parts.describe():
                _empty_folder(parts.folder)
        except OSError as error:  # the result is there, or another error is on its way
            logger.warning('%s can\'t be removed: %s', error.filename or parts.folder, error.strerror)


def _prepare_folder(parts: Parts, manifest: dict[str, Any], target: Path, *, restart: bool) -> None:
    """Check that the parts in the folder may be reused, or make room for new ones.

    Raises:
        PartsError: the folder holds something else.
    """
    folder = parts.folder
    _remove_temporary_files(folder)
    file = folder / _MANIFEST
    if not file.exists() and {path.name for path in folder.iterdir()} - {_LOCK}:
        raise PartsError(f'{folder}: can\'t be used for the parts of {target.name}: it contains other files; '
                         'move it away, or choose another --suffix or -o')
    found = _read_json(file)
    if found != manifest or restart:
        if found and not restart and any(_PART_FILE.fullmatch(path.name) and path.suffix != '.json'
                                         for path in folder.iterdir()):
            raise PartsError(f'{folder}: {_explain(found, manifest, target)}, or start anew with --restart')
        _empty_folder(folder)
        with whole_file(file) as temporary:
            temporary.write_text(json.dumps(manifest, indent=1))


def _read_json(file: Path) -> dict[str, Any]:
    """Return the object in a JSON file, or an empty one if the file is missing or damaged."""
    try:
        found = json.loads(file.read_bytes())
    except (FileNotFoundError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _as_read(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """Return a manifest as it comes back from its file, where tuples are lists."""
    read: dict[str, Any] = json.loads(json.dumps(manifest))
    return read


def _explain(found: Mapping[str, Any], manifest: Mapping[str, Any], target: Path) -> str:
    """Return why parts can't be reused, and what to do."""
    if found.get('version') != manifest.get('version'):
        return (f'holds parts that version {_shorten(found.get("version"))} has made, and this is '
                f'{_shorten(manifest.get("version"))}. Finish {target.name} with that version')
    return f'holds parts of another run: {_list_differences(found, manifest)}. Repeat that run to finish {target.name}'


def _list_differences(found: Mapping[str, Any], wanted: Mapping[str, Any]) -> str:
    names = [name for name in dict.fromkeys([*wanted, *found]) if found.get(name) != wanted.get(name)]
    return ', '.join(f'{name} was {_shorten(found.get(name))}, is {_shorten(wanted.get(name))}' for name in names)


def _shorten(value: object) -> str:
    text = 'not given' if value is None else str(value)
    return text if len(text) <= 60 else f'{text[:60]}...'


def _remove_temporary_files(folder: Path) -> None:
    """Remove what killed runs have left behind."""
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
