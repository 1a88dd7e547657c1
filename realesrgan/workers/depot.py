"""The files of the machine that gave the command, for workers that don't see them: through Ray's object store.

A file goes in blocks, and each worker waits for its block before it asks for the next. Ray frees blocks by the hundred.
So the object store holds some hundred blocks, however large the files are.
"""
from __future__ import annotations

import contextlib
import itertools
import os
from collections.abc import Iterator, Set
from contextlib import ExitStack
from functools import lru_cache
from pathlib import Path
from typing import Any

from ..atomic_files import errors_naming, whole_file, write_through
from ..errors import ClusterError, flatten_message
from .claims import Claims

_BLOCK_BYTES = 1 << 20
_BLOCKS_KEPT = 32  # by each worker: heads and indices of videos are read again for every part


#: What tells a file from what it was before: its size in bytes, and when it was written in nanoseconds.
State = tuple[int, int]


class Depot:
    """Reads and writes files for others. Ray makes it an actor, beside the command.

    Args:
        folder: Which paths start from.
        inputs: Real paths of files that are never written to.
    """

    def __init__(self, folder: str, inputs: Set[str]) -> None:
        os.chdir(folder)
        self._claims = Claims(inputs)
        self._open: dict[int, _Upload] = {}
        self._numbers = itertools.count()

    def inspect(self, path: str) -> State:
        """Return the state of a file."""
        status = Path(path).stat()
        return status.st_size, status.st_mtime_ns

    def read(self, path: str, offset: int, count: int) -> bytes:
        """Return some bytes of a file."""
        with Path(path).open('rb') as file:
            file.seek(offset)
            return file.read(count)

    def create(self, path: str, owner: str) -> int:
        """Begin a file, and return the number under which `append` and `finish` know it.

        Raises:
            ImageError: it would overwrite an input, or the result of another.
            OSError: it can't be written.
        """
        self._claims.claim(Path(path), owner)
        number = next(self._numbers)
        self._open[number] = _Upload(Path(path))
        return number

    def append(self, number: int, block: bytes) -> None:
        """Write the next block."""
        self._open[number].append(block)

    def finish(self, number: int) -> None:
        """Give a file its name, now that it is whole."""
        self._open[number].finish()
        del self._open[number]

    def drop(self, number: int) -> None:
        """Remove a file that won't become whole."""
        if number in self._open:
            self._open.pop(number).drop()

    def close(self) -> None:
        """Remove all files that are not whole."""
        for number in list(self._open):
            self.drop(number)


class _Upload:
    """A file that is being written, as `whole_file` does."""

    def __init__(self, target: Path) -> None:
        self._target = target
        with ExitStack() as stack:
            self._temporary = stack.enter_context(whole_file(target))
            self._file = stack.enter_context(self._temporary.open('wb'))
            self._stack = stack.pop_all()

    def append(self, block: bytes) -> None:
        with errors_naming(self._target, self._temporary):
            self._file.write(block)

    def finish(self) -> None:
        with errors_naming(self._target, self._temporary):
            self._file.flush()
            write_through(self._temporary)
        self._stack.close()

    def drop(self) -> None:
        with contextlib.suppress(InterruptedError, OSError), self._stack:
            raise InterruptedError


class DepotClient:
    """A depot as workers see it. It may be sent to them.

    Args:
        depot: Ray's handle of the actor.
    """

    def __init__(self, depot: Any) -> None:
        self._depot = depot
        self._read_kept = lru_cache(_BLOCKS_KEPT)(self._read_block)

    def __reduce__(self) -> tuple[Any, ...]:
        return DepotClient, (self._depot,)

    def inspect(self, path: Path) -> State:
        """Return the state of a file, whose size is its first item.

        Raises:
            OSError: there is none.
        """
        state: State = self._ask('inspect', str(path))
        return state

    def read(self, path: Path, state: State, start: int, stop: int) -> Iterator[bytes]:
        """Yield the bytes of a file from one offset to another, in pieces; fewer if it ends before.

        Args:
            path: The file.
            state: What `inspect` has said of it; blocks that were read in another state are read again.
            start, stop: The offsets.

        Raises:
            OSError: it can't be read.
        """
        while start < stop:
            index, skipped = divmod(start, _BLOCK_BYTES)
            piece = self._read_kept(path, index, state)[skipped:skipped + stop - start]
            if not piece:
                return
            yield piece
            start += len(piece)

    def fetch(self, path: Path, target: Path) -> None:
        """Copy a file of theirs to this machine.

        Raises:
            OSError: it can't be read, or written here.
        """
        with target.open('wb') as file:
            for index in itertools.count():
                block = self._read_block(path, index)
                file.write(block)
                if len(block) < _BLOCK_BYTES:
                    return

    def store(self, file: Path, target: Path, owner: str) -> None:
        """Copy a file of this machine to theirs, whole or not at all.

        Args:
            file: It.
            target: Where it goes.
            owner: Whose result it is: nobody else's overwrites it.

        Raises:
            ImageError: it would overwrite an input, or the result of another.
            OSError: it can't be read, or written there.
        """
        number = self._ask('create', str(target), owner)
        try:
            with file.open('rb') as opened:
                while block := opened.read(_BLOCK_BYTES):
                    self._ask('append', number, block)
            self._ask('finish', number)
        except BaseException:
            with contextlib.suppress(Exception):
                self._ask('drop', number)
            raise

    def _read_block(self, path: Path, index: int, _state: State | None = None) -> bytes:
        block: bytes = self._ask('read', str(path), index * _BLOCK_BYTES, _BLOCK_BYTES)
        return block

    def _ask(self, method: str, *arguments: Any) -> Any:
        import ray
        from ray.exceptions import RayError, RayTaskError
        try:
            return ray.get(getattr(self._depot, method).remote(*arguments))
        except RayTaskError as error:
            raise error.cause from None
        except RayError as error:
            raise ClusterError(f'what reads and writes files for the nodes is gone: {flatten_message(error)[-200:]}'
                               ) from None
