"""How the command lines end when something is wrong: in one message, which comes last."""

import inspect
import logging
import re
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from mmengine.logging import MMLogger
from mmengine.runner import BaseLoop

from ..datasets.transforms import UnreadableImage
from ..memory import NonFiniteFeatures
from .arguments import alike

# What a message says well enough, wherever it is raised.
FAULTS = (OSError, ValueError, ImportError, SyntaxError, UnreadableImage, NonFiniteFeatures)
# The same only before the first epoch, where it is the config that does not fit.
FAULTS_OF_CONFIGS = (TypeError, KeyError, AssertionError)
FAILED, STOPPED = 1, 130
NAMED = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)


@contextmanager
def plain_errors(debug: bool = False) -> Iterator[None]:
    """End the process with one message where what is wrong is not the program.

    Its traceback goes into the log of the run, if there is one. Other errors, which may be faults
    of the program, pass through as they are.

    Args:
        debug (bool): Whether all errors pass through. Defaults to False.
    """
    try:
        yield
    except KeyboardInterrupt as stop:
        if debug:
            raise
        _end(str(stop) or 'Stopped.', STOPPED)
    except (*FAULTS, *FAULTS_OF_CONFIGS) as error:
        if debug or not _tells_enough(error):
            raise
        log = _log_traceback()
        where = f'Traceback: {log}' if log else '--debug shows the traceback.'
        _end(f'error: {message_of(error)}\n{where}', FAILED)


def _end(text: str, code: int) -> None:
    sys.stdout.flush()
    print(f'\n{text}', file=sys.stderr, flush=True)
    raise SystemExit(code)


def was_stopped(error: BaseException | None) -> bool:
    """Whether somebody stopped the process, whatever failed on the way out."""
    return error is not None and (
        isinstance(error, KeyboardInterrupt) or was_stopped(error.__context__)
    )


def message_of(error: Exception) -> str:
    """What an error says, without quotes, and without the traceback of a loader's worker."""
    unknown = _unknown_option(error) if isinstance(error, TypeError) else None
    if unknown:
        return unknown
    text = str(error.args[0]) if isinstance(error, KeyError) and error.args else str(error)
    text = text.strip()
    if 'Original Traceback' in text:
        text = text.splitlines()[-1]
    return text or type(error).__name__


def _frames(error: Exception) -> list[FrameType]:
    return [frame for frame, _ in traceback.walk_tb(error.__traceback__)]


def _tells_enough(error: Exception) -> bool:
    """Whether its message says what is wrong with the config, the data or the command."""
    return isinstance(error, FAULTS) or (bool(error.args) and not _in_training(error))


def _in_training(error: Exception) -> bool:
    """Whether it was raised while a loop ran."""
    return any(
        frame.f_code.co_name == 'run' and isinstance(frame.f_locals.get('self'), BaseLoop)
        for frame in _frames(error)
    )


def _unknown_option(error: TypeError) -> str | None:
    """A message about a wrong key of a component, with those that are right."""
    found = re.search(r"(\w+)(?:\.__init__)?\(\) got an unexpected keyword .*'(\w+)'", str(error))
    if found is None:
        return None
    component = _component(found[1], _frames(error))
    if component is None:
        return None
    valid = list(dict.fromkeys(_options(component)))
    return (
        f'{component.__name__} has no option {found[2]!r}.{alike(found[2], valid)} Its options: '
        f'{", ".join(valid)}.'
    )


def _component(name: str, frames: list[FrameType]) -> Callable | None:
    """What was built from a config when ``name``, it or a parent of it, was given a wrong key."""
    built = [
        one.f_locals.get('obj_cls') for one in frames if one.f_code.co_name == 'build_from_cfg'
    ]
    component = built[-1] if built else None
    if component is not None and name in [one.__name__ for one in _family(component)]:
        return component
    return frames[-1].f_globals.get(name)


def _family(component: Callable) -> tuple[Callable, ...]:
    """A class and its parents, or the function alone."""
    return inspect.getmro(component) if inspect.isclass(component) else (component,)


def _options(component: Callable) -> Iterator[str]:
    """What a component can be given, through ``**kwargs`` too."""
    functions = [
        vars(one).get('__init__') if inspect.isclass(one) else one for one in _family(component)
    ]
    for function in filter(None, functions):
        parameters = inspect.signature(function).parameters.values()
        named = [one for one in parameters if one.kind in NAMED and one.name != 'self']
        yield from (one.name for one in named)
        if not any(one.kind == one.VAR_KEYWORD for one in parameters):
            return


def _log_traceback() -> Path | None:
    """Append the traceback to the file that the run logs to, if there is one."""
    for handler in MMLogger.get_current_instance().handlers:
        if isinstance(handler, logging.FileHandler):
            path = Path(handler.baseFilename)
            with path.open('a') as log:
                log.write(traceback.format_exc())
            return path
    return None
