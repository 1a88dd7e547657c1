"""The contents of the documents: headings, anchors, links, blocks of code, tables, commands."""
from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

PROJECT = Path(__file__).parents[2]
LANGUAGES = {'English', '한국어'}
_PROGRAMS = ('python', 'pip', 'make', 'apt-get', 'nvidia-smi', 'curl', 'docker', 'inference_realesrgan', 'examples/')


@dataclass(frozen=True)
class Block:
    """A fenced block of code."""

    language: str
    text: str

    @property
    def lines(self) -> list[str]:
        """Its lines without comments, with those that a backslash continues joined."""
        lines = re.sub(r' *\\\n *', ' ', self.text).split('\n')
        return [line for line in (re.sub(r'(^|\s+)#.*', '', line).rstrip() for line in lines) if line]


@dataclass(frozen=True)
class Document:
    """A file in Markdown, by its path from the project's root."""

    name: str

    @property
    def path(self) -> Path:
        return PROJECT / self.name

    @cached_property
    def text(self) -> str:
        return self.path.read_text(encoding='utf-8')

    @cached_property
    def blocks(self) -> list[Block]:
        return [Block(*found) for found in re.findall(r'^```(\w*)\n(.*?)^```$', self.text, re.M | re.S)]

    @cached_property
    def prose(self) -> str:
        """The text without blocks of code."""
        return re.sub(r'^```.*?^```$', '', self.text, flags=re.M | re.S)

    @cached_property
    def headings(self) -> list[tuple[int, str]]:
        """Level and text of each heading."""
        return [(len(signs), text) for signs, text in re.findall(r'^(#+) (.*)$', self.prose, re.M)]

    @cached_property
    def anchors(self) -> set[str]:
        """The anchors of this file that a link can name, as GitHub makes them from headings."""
        return {re.sub(r'[^\w\- ]', '', text.lower()).replace(' ', '-') for _, text in self.headings}

    @cached_property
    def links(self) -> list[str]:
        """The targets of links and pictures."""
        return re.findall(r'\]\(([^)\s]+)\)', self.prose)

    @cached_property
    def spans(self) -> list[str]:
        """Code inside of sentences and tables."""
        return [' '.join(span.split()) for span in re.findall(r'`([^`]+)`', self.prose)]

    @cached_property
    def tables(self) -> list[list[list[str]]]:
        """Tables as rows of cells, with the row of names and without that of dashes."""
        tables = re.findall(r'(?:^\|.*\n)+', self.prose, re.M)
        return [[[cell.strip() for cell in re.split(r'(?<!\\)\|', line)[1:-1]] for line in table.splitlines()
                 if not re.fullmatch(r'[|\- ]*-[|\- ]*', line)] for table in tables]

    @property
    def commands(self) -> Iterator[str]:
        """Every command: lines of blocks of bash, and code in sentences that begins with a program and goes on."""
        for block in self.blocks:
            if block.language == 'bash':
                yield from block.lines
        yield from (span for span in self.spans if span.startswith(_PROGRAMS) and ' ' in span)


def name_translation(name: str) -> str:
    """Return the path of an English document in Korean."""
    return 'README.ko.md' if name == 'README.md' else name.replace('docs/', 'docs/ko/')


#: For those who work on the code, who read English.
ONLY_ENGLISH = {'docs/architecture.md'}
TRANSLATED = ['README.md', *sorted(name for path in (PROJECT / 'docs').glob('*.md')
                                   if (name := f'docs/{path.name}') not in ONLY_ENGLISH)]
EVERYTHING = [Document(name) for name in (
    *TRANSLATED, *map(name_translation, TRANSLATED), *sorted(ONLY_ENGLISH), 'CONTRIBUTING.md', 'CHANGELOG.md',
    'benchmarks/README.md', 'inputs/README.md', 'weights/README.md')]
