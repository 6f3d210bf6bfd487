"""Errors of configs, data and files as one message instead of a traceback."""

import logging
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from mmengine.logging import MMLogger
from mmengine.runner import loops

from ..datasets.transforms import UnreadableImage
from ..memory import NonFiniteFeatures
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
