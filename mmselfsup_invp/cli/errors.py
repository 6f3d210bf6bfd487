"""Errors of configs, data and files as one message instead of a traceback."""

import logging
import re
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from mmengine import registry
from mmengine.config import Config
from mmengine.logging import MMLogger
from mmengine.registry import Registry
from mmengine.runner import loops

from ..config import dicts_in
from ..datasets.transforms import UnreadableImage
from ..memory import NonFiniteFeatures
from ..options import options_of, suggest
from ..registry import SCOPE
from .signals import StopSignals

# Errors whose message is sufficient wherever they are raised.
USER_ERRORS = (OSError, ValueError, ImportError, SyntaxError, UnreadableImage, NonFiniteFeatures)
# The same while the run is built from the config; within a loop they are errors of the program.
CONFIG_ERRORS = (TypeError, KeyError, AssertionError)
FAILED = 1


@contextmanager
def plain_errors(debug: bool = False) -> Iterator[None]:
    """End the process with one message for errors of the user and for signals.

    SIGTERM and SIGHUP are handled as Ctrl-C; see :class:`StopSignals` for the exit code. The
    traceback of an error is appended to the log file of the run, if there is one. Errors of the
    program, and with ``debug`` all errors, are raised unchanged.
    """
    signals = StopSignals()
    try:
        with signals:
            yield
    except KeyboardInterrupt as stop:
        if debug:
            raise
        _exit(str(stop) or 'Interrupted.', signals.exit_code)
    except (*USER_ERRORS, *CONFIG_ERRORS) as error:
        if debug or not _is_user_error(error):
            raise
        log = _log_traceback()
        where = f'Traceback: {log}' if log else '--debug shows the traceback.'
        _exit(f'error: {message_of(error)}\n{where}', FAILED)


def _exit(text: str, code: int) -> None:
    with suppress(OSError):  # The output may go to a full disk.
        sys.stdout.flush()
        print(f'\n{text}', file=sys.stderr, flush=True)
    raise SystemExit(code)


def _is_user_error(error: Exception) -> bool:
    if isinstance(error, USER_ERRORS):
        return True
    calls = traceback.extract_tb(error.__traceback__)
    in_loop = any((call.filename, call.name) == (loops.__file__, 'run') for call in calls)
    return bool(error.args) and not in_loop


def _log_traceback() -> Path | None:
    """Append the traceback to the log file of the run and return its path."""
    for handler in MMLogger.get_current_instance().handlers:
        if isinstance(handler, logging.FileHandler):
            with suppress(OSError):  # The disk may be full.
                path = Path(handler.baseFilename)
                with path.open('a') as log:
                    log.write(traceback.format_exc())
                return path
    return None


def message_of(error: Exception) -> str:
    """The text of an error, without the traceback of a data loader's worker."""
    # str() of a KeyError quotes its argument.
    text = str(error.args[0]) if isinstance(error, KeyError) and error.args else str(error)
    if 'Original Traceback' in text:
        text = text.strip().splitlines()[-1]
    return text.strip() or type(error).__name__


def was_interrupted(error: BaseException | None) -> bool:
    """Whether an error is a KeyboardInterrupt or was raised while one was handled."""
    return error is not None and (
        isinstance(error, KeyboardInterrupt) or was_interrupted(error.__context__)
    )


@contextmanager
def explain_unknown_options(cfg: Config) -> Iterator[None]:
    """Raise ``ValueError`` with the valid options when a component of a config rejects one."""
    try:
        yield
    except TypeError as error:
        found = re.search(r"got an unexpected keyword argument '(\w+)'", str(error))
        message = found and _unknown_option(cfg, found[1])
        if not message:
            raise
        raise ValueError(message) from error


def _unknown_option(cfg: Config, option: str) -> str | None:
    for part in dicts_in(cfg._cfg_dict):
        if option not in part or 'type' not in part:
            continue
        component = _component(part['type'])
        valid = options_of(component) if component else {option}
        if option not in valid:
            return (
                f'{component.__name__} has no option {option!r}.{suggest(option, valid)} Its '
                f'options: {", ".join(valid)}.'
            )
    return None


def _component(name: str | Callable) -> Callable | None:
    """The component that a config names, with or without a scope."""
    if callable(name):
        return name
    for root in vars(registry).values():
        if isinstance(root, Registry):
            with suppress(RuntimeError):  # No object has this name.
                if found := root.children.get(SCOPE, root).get(name):
                    return found
    return None
