"""The report as one page that needs nothing beside it."""
from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import Any

from ..measures import STAGES, Preview


def render_page(report: dict[str, Any], previews: Sequence[Preview | None]) -> str:
    """Return a report as HTML, with its styles, its script and its pictures in it.

    Args:
        report: As `Reporter.describe` returns it.
        previews: Pictures for each of its files, or None.
    """
    from jinja2 import Environment, PackageLoader, select_autoescape
    environment = Environment(loader=PackageLoader('realesrgan.reports', '.'), autoescape=select_autoescape(
        default=True), trim_blocks=True, lstrip_blocks=True)
    environment.filters['data_url'] = _make_data_url
    environment.filters['bytes'] = _format_bytes
    rows = [{**file, 'preview': preview, 'worst': _find_worst(file['samples']),
             'findings': _list_findings(file['samples'])} for file, preview in zip(
                 report['files'], previews, strict=True)]
    longest = max((sum(row['stages'].values()) for row in rows if row['stages']), default=0)
    return environment.get_template('page.html.jinja').render(report=report, rows=rows, stages=STAGES,
                                                              longest=longest or 1)


def _find_worst(samples: Sequence[dict[str, Any]]) -> dict[str, float | None]:
    """Return the worst of each measure that the table shows."""
    def worst(name: str, choose: Any) -> float | None:
        values = [sample[name] for sample in samples if sample[name] is not None]
        return choose(values) if values else None
    return {'psnr': worst('psnr', min), 'ssim': worst('ssim', min), 'niqe_before': worst('niqe_before', max),
            'niqe_after': worst('niqe_after', max)}


def _list_findings(samples: Sequence[dict[str, Any]]) -> list[str]:
    return [finding if sample['frame'] is None else f'frame {sample["frame"] + 1}: {finding}'
            for sample in samples for finding in sample['findings']]


def _make_data_url(jpeg: bytes) -> str:
    return 'data:image/jpeg;base64,' + base64.b64encode(jpeg).decode()


def _format_bytes(count: int) -> str:
    return f'{count / 2 ** 30:.1f} GiB' if count >= 2 ** 30 else f'{count / 2 ** 20:.0f} MiB'
