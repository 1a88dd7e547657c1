"""The linter, which `make lint` runs, checks the imports as docs/architecture.md describes them."""
from __future__ import annotations

import ast
import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
FILES = [*(ROOT / 'realesrgan').rglob('*.py'), ROOT / 'inference_realesrgan.py', ROOT / 'inference_realesrgan_video.py']


def test_the_document_names_the_layers_that_the_linter_checks():
    text = (ROOT / 'docs' / 'architecture.md').read_text()
    block = re.search(r'## Rooms.*?```\n(.*?)```', text, re.DOTALL)[1]
    contract = tomllib.loads((ROOT / 'pyproject.toml').read_text())['tool']['importlinter']['contracts'][0]
    assert block.splitlines() == contract['layers']


def test_functions_fit_a_screen():
    assert [f'{file.relative_to(ROOT)}: {node.name}' for file in FILES for node in ast.walk(ast.parse(file.read_text()))
            if isinstance(node, ast.FunctionDef) and node.end_lineno - node.lineno >= 50] == []
