"""The parts of a video, whole or in progress, as files with notes beside them."""
from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np

from ..ffmpeg.decoder import Damage
from ..files import hash_file, read_json, whole_file, write_through

_CHECKSUM_BYTES = hashlib.sha256().digest_size
_FRAME = 'raw'  # the extension of frames that are kept one by one


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
        note = read_json(path.with_suffix('.json'))
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
