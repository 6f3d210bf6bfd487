"""The benchmark configs and tools of MMSelfSup, how they are started, and what is known to fail.

``python -m tests.host_tools`` prints the table of docs/en/compatibility.md, which
tests/test_host_tools.py proves.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import mmcls
import mmselfsup

ROOT = Path(__file__).resolve().parent.parent
HOST = Path(mmselfsup.__file__).parent / '.mim'
CONFIGS = 'configs/benchmarks/classification'
PRETRAINING = ROOT / 'configs/invp/invp_resnet50_1xb128-coslr-800e_in1k.py'
TRAIN = str(Path(mmcls.__file__).parent / '.mim/tools/train.py')
BENCHMARKS = 'tools/benchmarks/classification'
IMAGES = 4  # Two iterations of two images.


@dataclass(frozen=True)
class Tool:
    """A script of the host with the configs that it is started with.

    Attributes:
        purpose (str): First column of the table.
        words (tuple[str, ...]): The command after ``python``, run in a checkout of the host.
        configs (str): Pattern of the configs below ``configs/benchmarks/classification``, each of
            which replaces ``CONFIG`` in the command; empty for none.
        error (str): Regular expression of the error of a script that fails; empty if it runs.
        cause (str): The line upstream that fails.
        instead (str): What does the job instead.
    """

    purpose: str
    words: tuple[str, ...]
    configs: str = ''
    error: str = ''
    cause: str = ''
    instead: str = ''

    def commands(self) -> Iterator[tuple[str, ...]]:
        """The command with each of the configs."""
        for path in sorted((HOST / CONFIGS).glob(self.configs)) if self.configs else ['']:
            config = path and str(path.relative_to(HOST))
            yield tuple(config if word == 'CONFIG' else word for word in self.words)

    def row(self) -> str:
        """The row of the table."""
        script = Path(self.words[2] if self.words[0] == '-m' else self.words[0]).name
        count = len(list(self.commands()))
        number = f' ({count} configs)' if count > 1 else ''
        result = f'fails: {self.cause}; use {self.instead}' if self.error else 'runs unchanged'
        return f'| {self.purpose}{number} | `{script}` | {result} |'
