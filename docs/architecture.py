"""Draw the parts of the package and the imports between them.

    python docs/architecture.py           # writes docs/en/architecture.svg
    python docs/architecture.py --check   # fails if the figure is out of date

A box is a module or package below ``mmselfsup_invp``; the parts of ``models`` have boxes of their
own. A box is one row above the highest that it imports. Arrows are imports; one that follows from
others is left out. Imports in a circle are an error.
"""

import argparse
import ast
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / 'mmselfsup_invp'
FIGURE = ROOT / 'docs/en/architecture.svg'

# Packages whose parts have boxes of their own.
DIVIDED = ('models',)
# Without functions of their own.
OMITTED = ('utils', 'version')

Graph = dict[str, set[str]]

WIDTH, HEIGHT, GAP_X, GAP_Y, MARGIN = 166, 34, 20, 56, 16


def box_of(module: tuple[str, ...]) -> str:
    """The box of a module, given by its path below the package."""
    return '.'.join(module[:2] if module[0] in DIVIDED else module[:1])


def module_of(path: Path) -> tuple[str, ...]:
    parts = path.relative_to(PACKAGE).with_suffix('').parts
    return parts[:-1] if parts[-1] == '__init__' else parts


def imported(path: Path) -> Iterator[tuple[str, ...]]:
    """Modules of this package that a file imports, wherever in the file."""
    package = path.relative_to(PACKAGE).parts[:-1]
    for node in ast.walk(ast.parse(path.read_text())):
        if not isinstance(node, ast.ImportFrom) or not node.level:
            continue
        base = package[: len(package) - node.level + 1]
        base += tuple(node.module.split('.')) if node.module else ()
        for alias in node.names:
            target = (*base, alias.name)
            yield target if exists(target) else base


def exists(module: tuple[str, ...]) -> bool:
    path = PACKAGE.joinpath(*module)
    return path.is_dir() or path.with_suffix('.py').is_file()


def imports() -> Graph:
    """The boxes that each box imports.

    The ``__init__`` files of the packages, which only register and export, are not counted.
    """
    graph: Graph = {}
    for path in sorted(PACKAGE.rglob('*.py')):
        module = module_of(path)
        if '.mim' in path.parts or (path.stem == '__init__' and len(module) < 2):
            continue
        box = box_of(module)
        targets = {box_of(target) for target in imported(path) if target}
        if box not in OMITTED:
            graph.setdefault(box, set()).update(targets - {box, *OMITTED})
    for box in set().union(*graph.values()) - set(graph):
        graph[box] = set()
    return graph


def rows(graph: Graph) -> dict[str, int]:
    """The row of each box, 0 for those that import none.

    Raises:
        ValueError: If boxes import each other in a circle.
    """
    row: dict[str, int] = {}

    def place(box: str, path: tuple[str, ...]) -> int:
        if box in path:
            raise ValueError(f'Imports form a circle: {" -> ".join([*path, box])}')
        if box not in row:
            row[box] = max((place(one, (*path, box)) + 1 for one in graph[box]), default=0)
        return row[box]

    for box in graph:
        place(box, ())
    return row


def reached(graph: Graph, box: str) -> set[str]:
    found = set(graph[box])
    for one in graph[box]:
        found |= reached(graph, one)
    return found


def essential(graph: Graph) -> Graph:
    """The imports that do not follow from others: the transitive reduction."""
    return {
        box: {one for one in near if all(one not in reached(graph, other) for other in near)}
        for box, near in graph.items()
    }


def positions(graph: Graph) -> dict[str, tuple[float, float]]:
    """Centre of each box: rows from bottom to top, each ordered by what its boxes import."""
    row = rows(graph)
    levels = [sorted(box for box in graph if row[box] == n) for n in range(max(row.values()) + 1)]
    widest = max(map(len, levels))
    full = 2 * MARGIN + widest * WIDTH + (widest - 1) * GAP_X
    centre: dict[str, tuple[float, float]] = {}
    for number, level in enumerate(levels):
        below = {one: [centre[each][0] for each in graph[one]] or [0] for one in level}
        level.sort(key=lambda box, below=below: (sum(below[box]) / len(below[box]), box))
        span = full / len(level)
        y = MARGIN + HEIGHT / 2 + (len(levels) - 1 - number) * (HEIGHT + GAP_Y)
        for place, box in enumerate(level):
            centre[box] = (span * (place + 0.5), y)
    return centre


def draw(graph: Graph) -> str:
    """The figure as SVG."""
    centre = positions(graph)
    width = max(x for x, _ in centre.values()) + WIDTH / 2 + MARGIN
    width = max(width, 2 * max(x for x, _ in centre.values()) - width)
    height = max(y for _, y in centre.values()) + HEIGHT / 2 + MARGIN
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height:.0f}" '
        'font-family="sans-serif" font-size="14">',
        '<defs><marker id="tip" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="7" '
        'markerHeight="7" orient="auto"><path d="M0 0L8 4L0 8z" fill="#888"/></marker></defs>',
        f'<rect width="{width:.0f}" height="{height:.0f}" fill="#fff"/>',
    ]
    for box, near in sorted(essential(graph).items()):
        for one in sorted(near):
            lines.append(draw_arrow(centre[box], centre[one]))
    for box, (x, y) in sorted(centre.items()):
        lines.append(draw_box(box, x, y))
    return '\n'.join([*lines, '</svg>', ''])


def draw_arrow(start: tuple[float, float], end: tuple[float, float]) -> str:
    (x0, y0), (x1, y1) = start, end
    y0, y1 = y0 + HEIGHT / 2, y1 - HEIGHT / 2
    bend = min(GAP_Y, (y1 - y0) / 2)
    path = f'M{x0:.0f} {y0:.0f}C{x0:.0f} {y0 + bend:.0f} {x1:.0f} {y1 - bend:.0f} {x1:.0f} {y1:.0f}'
    return f'<path d="{path}" fill="none" stroke="#888" marker-end="url(#tip)"/>'


def draw_box(box: str, x: float, y: float) -> str:
    colour = '#fde9c9' if box.startswith(('ops', 'memory')) else '#dbe9f6'
    return (
        f'<rect x="{x - WIDTH / 2:.0f}" y="{y - HEIGHT / 2:.0f}" width="{WIDTH}" '
        f'height="{HEIGHT}" rx="5" fill="{colour}" stroke="#555"/>'
        f'<text x="{x:.0f}" y="{y + 5:.0f}" text-anchor="middle">{box}</text>'
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition('\n')[0])
    parser.add_argument('--check', action='store_true', help='compare with the figure in the tree')
    args = parser.parse_args()
    figure = draw(imports())
    if not args.check:
        FIGURE.write_text(figure)
        return 0
    if not FIGURE.is_file() or FIGURE.read_text() != figure:
        print('docs/en/architecture.svg is out of date: run `python docs/architecture.py`')
        return 1
    return 0


if __name__ == '__main__':
    sys.exit(main())
