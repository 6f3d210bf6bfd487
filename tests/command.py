"""Start the scripts in tools/ in this process."""

import runpy
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

TOOLS = Path(__file__).resolve().parents[1] / 'tools'


def run_tool(
    name: str,
    *arguments: object,
    monkeypatch: pytest.MonkeyPatch,
    capture: pytest.CaptureFixture,
) -> SimpleNamespace:
    """Run a command line; the result has ``returncode`` and what it prints, ``out`` and ``err``."""
    monkeypatch.setattr(sys, 'argv', [name, *map(str, arguments)])
    monkeypatch.syspath_prepend(TOOLS)
    code = 0
    try:
        runpy.run_path(str(TOOLS / name), run_name='__main__')
    except SystemExit as stop:
        code = stop.code
    return SimpleNamespace(returncode=code, **capture.readouterr()._asdict())
