"""Record which lines of the package every test executes."""

import json
import os
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import pytest


class ExecutedLines:
    """Plugin of pytest that writes a file about the tests that passed.

    The file holds the imported libraries and, for every test, its seconds and the lines that it
    executed in this process, by module of the package.

    Args:
        package (Path): Folder of the package.
        output (Path): The file, in JSON.
    """

    def __init__(self, package: Path, output: Path) -> None:
        self.package = f'{package}{os.sep}'
        self.output = output
        self.tests: dict[str, dict[str, Any]] = {}
        self.lines: dict[str, set[int]] = {}

    @pytest.hookimpl(hookwrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[None]:
        self.lines = defaultdict(set)
        start = time.perf_counter()
        sys.settrace(self._enter)
        yield
        sys.settrace(None)
        seconds = time.perf_counter() - start
        lines = {name: sorted(found) for name, found in self.lines.items()}
        self.tests.setdefault(item.nodeid, dict(seconds=seconds, lines=lines))

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            self.tests[report.nodeid] = dict(seconds=0, lines={})

    def pytest_sessionfinish(self) -> None:
        content = dict(libraries=libraries(Path(self.package).parent), tests=self.tests)
        self.output.write_text(json.dumps(content))

    def _enter(self, frame: FrameType, event: str, arg: object) -> Callable | None:
        """Trace the lines of a function of the package."""
        name = frame.f_code.co_filename
        if not name.startswith(self.package):
            return None
        lines = self.lines[name.removeprefix(self.package)]

        def trace(frame: FrameType, event: str, arg: object) -> Callable:
            lines.add(frame.f_lineno)
            return trace

        return trace(frame, event, arg)


def libraries(root: Path) -> list[str]:
    """The imported modules that are not in a folder, in the order of their import."""
    files = {name: getattr(module, '__file__', None) for name, module in sys.modules.items()}
    return [name for name, file in files.items() if file and root not in Path(file).parents]
