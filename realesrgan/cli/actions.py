"""What options of the command line do when they are met."""
from __future__ import annotations

import argparse
from typing import Any

from ..models import MODELS
from .types import parse_model_name


class Joined(argparse.Action):
    """Joins the lists of several values into one, each item once."""

    def __call__(self, parser: argparse.ArgumentParser, namespace: argparse.Namespace, values: Any,
                 option_string: str | None = None) -> None:
        setattr(namespace, self.dest, list(dict.fromkeys(item for value in values for item in value)))


class ListDevices(argparse.Action):
    """Prints the table of devices and ends the program, as --version does."""

    def __init__(self, option_strings: list[str], dest: str, help: str) -> None:
        super().__init__(option_strings, argparse.SUPPRESS, nargs=0, default=argparse.SUPPRESS, help=help)

    def __call__(self, parser: argparse.ArgumentParser, namespace: argparse.Namespace, values: Any,
                 option_string: str | None = None) -> None:
        from ..engines.choice import describe_devices
        print(describe_devices())
        parser.exit()


class PrintCompletion(argparse.Action):
    """Prints what makes a shell complete the program's options, and ends the program."""

    _PATHS = 'PATH', 'FILE', 'FILE.py', 'FOLDER'  # metavars

    def __init__(self, option_strings: list[str], dest: str, help: str) -> None:
        super().__init__(option_strings, argparse.SUPPRESS, choices=('bash', 'zsh', 'fish'), metavar='SHELL',
                         default=argparse.SUPPRESS, help=help)

    def __call__(self, parser: argparse.ArgumentParser, namespace: argparse.Namespace, values: Any,
                 option_string: str | None = None) -> None:
        try:
            import shtab
        except ImportError:
            parser.error('--print_completion needs shtab: pip install shtab')
        for action in parser._actions:
            if action.metavar in self._PATHS:
                action.complete = shtab.FILE  # type: ignore[attr-defined]  # which is how shtab is told
            elif action.type is parse_model_name:
                action.choices = tuple(MODELS)
        print(shtab.complete(parser, values))
        parser.exit()
