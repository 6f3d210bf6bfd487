"""The pages of the documentation and their fenced blocks.

Blocks of the languages ``shell`` and ``python`` are run by tests/test_docs_run.py, unless a comment
above the block says why not::

    <!-- not run: needs ImageNet -->
    ```shell
    tools/dist_train.sh configs/invp/invp_resnet50_8xb128-coslr-800e_in1k.py 8
    ```
"""

import ast
import re
import shlex
from dataclasses import dataclass
from pathlib import Path
from textwrap import dedent

ROOT = Path(__file__).resolve().parent.parent
PAGES = [
    *sorted(ROOT.glob('*.md')),
    *sorted(ROOT.glob('benchmarks/**/README.md')),
    *sorted(ROOT.glob('configs/**/README.md')),
    *sorted(ROOT.glob('docs/en/**/*.md')),
]
BLOCK = re.compile(
    r'(?:^`(?P<file>\w+\.py)`[^\n]*\n\n)?'
    r'(?:^ *<!-- not run: (?P<reason>[^\n]+) -->\n)?'
    r'^(?P<indent> *)```(?P<language>[^\n`]*)\n(?P<code>.*?)^(?P=indent)```$',
    re.DOTALL | re.MULTILINE,
)


@dataclass(frozen=True)
class Block:
    """A fenced block.

    Attributes:
        language (str): Word after the fence; empty without one.
        code (str): The lines between the fences.
        file (str, optional): Name of the file, which begins the line above the block.
        reason (str, optional): Why the block is not run.
    """

    language: str
    code: str
    file: str | None
    reason: str | None

    @property
    def is_config(self) -> bool:
        """Whether this is a config: Python of assignments alone."""
        if self.language != 'python':
            return False
        return all(isinstance(statement, ast.Assign) for statement in ast.parse(self.code).body)

    @property
    def is_script(self) -> bool:
        return self.language == 'python' and not self.is_config and self.file is None

    def commands(self) -> list[str]:
        """The commands of a shell block, each on one line, without comments."""
        lines = self.code.replace('\\\n', ' ').splitlines()
        return [line for line in lines if shlex.split(line, comments=True)]


def name(page: Path) -> str:
    return str(page.relative_to(ROOT))


def blocks(page: Path) -> list[Block]:
    found = BLOCK.finditer(page.read_text())
    return [
        Block(match['language'], dedent(match['code']), match['file'], match['reason'])
        for match in found
    ]


def inline_commands(page: Path) -> list[str]:
    """Commands of the tools in the text and the tables of a page."""
    text = BLOCK.sub('', page.read_text())
    return re.findall(r'`(python tools/[^`]+)`', text)


def anchors(page: Path) -> set[str]:
    """Anchors that GitHub gives the headings of a page."""
    titles = re.findall(r'^#+ (.+)$', page.read_text(), re.MULTILINE)
    return {re.sub(r'[^\w\- ]', '', title.lower()).replace(' ', '-') for title in titles}
