"""Which paths results take: never that of an input, never that of another's result."""
from __future__ import annotations

import os
from collections.abc import Set
from pathlib import Path

from ..errors import ImageError


class Claims:
    """Paths that are taken, by what they really are.

    Args:
        inputs: Real paths of all inputs.
        taken: Real paths of results that are there already.
    """

    def __init__(self, inputs: Set[str], taken: Set[str] = frozenset()) -> None:
        self._inputs = inputs
        self._owners = dict.fromkeys(taken, '')

    def claim(self, target: Path, owner: str, what: str = 'its result') -> None:
        """Take a path for what is called `what`; its owner may take it again.

        Raises:
            ImageError: that would overwrite an input, or what another has taken.
        """
        real = os.path.realpath(target)
        if real in self._inputs:
            raise ImageError(f'{what} would overwrite the input {target}; choose another --suffix or -o')
        if self._owners.setdefault(real, owner) != owner:
            raise ImageError(f'{what} would overwrite another\'s, {target}; give it another name')
