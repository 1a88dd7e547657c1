"""A depot in this process, for tests without Ray."""
from __future__ import annotations

from realesrgan.workers.depot import Depot, DepotClient


class DirectClient(DepotClient):
    """Asks a depot that is an object of this process, and counts the bytes that it reads and the blocks it writes."""

    def __init__(self, folder, inputs=frozenset()):
        super().__init__(Depot(str(folder), inputs))
        self.bytes_read = 0
        self.asked = []

    def _ask(self, method, *arguments):
        self.asked.append(method)
        answer = getattr(self._depot, method)(*arguments)
        if method == 'read':
            self.bytes_read += len(answer)
        return answer
