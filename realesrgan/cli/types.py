"""What options of the command line are parsed with."""
from __future__ import annotations

import argparse
import difflib
import math
import os
from collections.abc import Callable
from typing import Any

from ..models import MODELS


def make_number_type(kind: Callable[[str], Any], low: float, high: float = float('inf')) -> Callable[[str], Any]:
    """Return an argparse type: a number of `kind` from `low` to `high`."""
    def parse(text: str) -> Any:
        try:
            value = kind(text)
        except ValueError:
            raise argparse.ArgumentTypeError(
                f'{text!r} is not a {"whole " if kind is int else ""}number') from None
        if not (low <= value <= high and math.isfinite(value)):
            allowed = f'{low:g} or more' if high == float('inf') else f'{low:g} to {high:g}'
            raise argparse.ArgumentTypeError(f'{text} is out of range: allowed is {allowed}')
        return value
    return parse


def make_type(parse: Callable[[str], Any]) -> Callable[[str], Any]:
    """Return an argparse type that shows the message of the parser's ValueError."""
    def convert(text: str) -> Any:
        try:
            return parse(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from None
    return convert


def parse_outscale(text: str) -> float:
    """Parse a finite number above 0."""
    try:
        value = float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f'{text!r} is not a number') from None
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f'{text} is out of range: it must be above 0')
    return value


def parse_file_name_part(text: str) -> str:
    """Parse a part of a file name, which must not hold a separator of folders."""
    if set(text) & {'/', os.sep, os.altsep}:
        raise argparse.ArgumentTypeError(f'{text!r} would leave the folder: it must not hold a separator')
    return text


def parse_path(text: str) -> str:
    """Parse a path. An empty one, which an unset variable of a shell script gives, is refused."""
    if not text:
        raise argparse.ArgumentTypeError('it is empty')
    return text


def parse_report_path(text: str) -> str:
    """Parse the path of a report, whose extension says what it is written as."""
    if not text.lower().endswith(('.json', '.html')):
        raise argparse.ArgumentTypeError(f'{text!r} must end in .json or .html')
    return text


def parse_model_name(text: str) -> str:
    """Parse a model's name; a trailing `.pth` is ignored, as the original does."""
    name = text.removesuffix('.pth')
    if name in MODELS:
        return name
    nearest = difflib.get_close_matches(name.lower(), [known.lower() for known in MODELS], n=1, cutoff=0)
    hint = next(known for known in MODELS if known.lower() in nearest)
    raise argparse.ArgumentTypeError(f'unknown model {text!r}: choose from {", ".join(MODELS)}; nearest is {hint}')


def parse_gpu_ids(text: str) -> list[int]:
    """Parse numbers of GPUs with commas between them."""
    return [make_number_type(int, 0)(part) for part in text.split(',')]
