"""Lines of the lists that configs read."""

from .data_set import Sample


def parse_line(line: str) -> Sample:
    """Path and label of a line; the label is None where there is none.

    Raises:
        ValueError: If what follows the last blank is no number.
    """
    path, _, label = line.strip().rpartition(' ')
    if not path:
        return label, None
    try:
        return path, int(label)
    except ValueError as error:
        raise ValueError(
            f'{line.strip()!r} is no line of a list: a path, a blank and a label are expected.'
        ) from error


def format_line(sample: Sample) -> str:
    """The line of a path and a label, its end included."""
    path, label = sample
    return f'{path}\n' if label is None else f'{path} {label}\n'
