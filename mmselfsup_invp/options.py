"""Declare the type and the range of a component's options, and refuse all other values.

The type hints of a constructor are the declaration, and :func:`checked` enforces them::

    @MODELS.register_module()
    @checked
    class SomeHead(BaseModule):
        def __init__(
            self,
            num_negatives: PositiveInt = 16384,
            kind: Literal['cosine', 'arc'] = 'cosine',
            margin: Annotated[float, Range(-2, 2)] = 0.0,
        ) -> None: ...

``bool`` is no number here, ``float`` is finite and includes ``int``, and a list may stand for a
tuple and the reverse, because configs do not distinguish them. This module needs Python alone.
"""

import functools
import inspect
import math
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from numbers import Integral, Real
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

Class = TypeVar('Class', bound=type)

MAX_INT = 2**31 - 1


@dataclass(frozen=True)
class Range:
    """Numbers from ``low``, which ``above`` excludes, to ``high``: ``Annotated[float, Range(0,
    1)]``.
    """

    low: float
    high: float
    above: bool = False

    def __contains__(self, value: float) -> bool:
        return self.low <= value <= self.high and not (self.above and value == self.low)

    def __str__(self) -> str:
        if self.above:
            return f'above {self.low} and at most {self.high}'
        return f'from {self.low} to {self.high}'


@dataclass(frozen=True)
class Choice:
    """The names in a table, for ``Annotated[str, Choice(TABLE)]``; else use ``Literal``."""

    names: Collection[str]

    def __post_init__(self) -> None:
        object.__setattr__(self, 'names', tuple(self.names))  # Hashable, as typing needs it.

    def __contains__(self, value: str) -> bool:
        return value in self.names

    def __str__(self) -> str:
        return f'one of {", ".join(map(repr, self.names))}'


PositiveInt = Annotated[int, Range(1, MAX_INT)]
NonNegativeInt = Annotated[int, Range(0, MAX_INT)]
# Values above these bounds are mistakes; some of them would make the loss constant or infinite.
PositiveFloat = Annotated[float, Range(0, 1_000_000, above=True)]
NonNegativeFloat = Annotated[float, Range(0, 1_000_000)]
Fraction = Annotated[float, Range(0, 1)]
PositiveFraction = Annotated[float, Range(0, 1, above=True)]
Temperature = Annotated[float, Range(0.001, 100)]
Channels = Annotated[int, Range(1, 2**20)]
Seed = Annotated[int, Range(0, 2**32 - 1)]
# Weight initialisation of MMEngine.
InitCfg = dict | list[dict] | None


def accepts(hint: Any, value: Any) -> bool:
    """Whether a value satisfies a type hint.

    Hints that are no classes and none of those of :mod:`typing` that configs need are satisfied by
    all values.

    Example:
        >>> accepts(PositiveInt | None, 3), accepts(PositiveInt | None, 2.5), accepts(int, True)
        (True, False, False)
    """
    origin, args = get_origin(hint), get_args(hint)
    if origin is Annotated:
        base, constraint = args
        return accepts(base, value) and value in constraint
    if origin in (Union, UnionType):
        return any(accepts(arg, value) for arg in args)
    if origin is Literal:
        return any(type(value) is type(arg) and value == arg for arg in args)
    if args and origin in (dict, Mapping):
        return isinstance(value, Mapping) and all(
            accepts(args[0], key) and accepts(args[1], entry) for key, entry in value.items()
        )
    if origin is tuple and args and Ellipsis not in args:
        return (
            isinstance(value, (list, tuple))
            and len(value) == len(args)
            and all(map(accepts, args, value))
        )
    if args and origin in (list, tuple, Sequence, Iterable):
        return isinstance(value, (list, tuple)) and all(accepts(args[0], entry) for entry in value)
    return _is_instance(origin or hint, value)


def _is_instance(hint: Any, value: Any) -> bool:
    if hint is int:
        return isinstance(value, Integral) and not isinstance(value, bool)
    if hint is float:
        return isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)
    if hint in (list, tuple, Sequence):
        return isinstance(value, (list, tuple))
    if hint is None:
        return value is None
    return hint is Any or not isinstance(hint, type) or isinstance(value, hint)


NAMES = {
    bool: 'True or False',
    int: 'an integer',
    float: 'a finite number',
    str: 'a string',
    dict: 'a dict',
    NoneType: 'None',
}


def describe(hint: Any) -> str:
    """The values that a type hint accepts, in words.

    Example:
        >>> describe(Fraction | None), describe(Literal['cosine', 'arc'])
        ('a finite number from 0 to 1 or None', "one of 'cosine', 'arc'")
    """
    origin, args = get_origin(hint), get_args(hint)
    if origin is Annotated:
        base, constraint = args
        return str(constraint) if base is str else f'{describe(base)} {constraint}'
    if origin in (Union, UnionType):
        return ' or '.join(map(describe, args))
    if origin is Literal:
        return f'one of {", ".join(map(repr, args))}'
    if origin is tuple and Ellipsis not in args:
        return f'a list of {len(args)}: {", ".join(map(describe, args))}'
    if origin in (list, tuple, Sequence, Iterable):
        return f'a list, each entry {describe(args[0])}'
    if origin in (dict, Mapping):
        return f'a dict, each value {describe(args[1])}'
    return NAMES.get(hint) or f'of the type {getattr(hint, "__name__", hint)}'


def check_option(component: str, name: str, value: Any, hint: Any) -> None:
    """Raise ``ValueError`` with the valid values unless an option has one of them.

    ``component`` is what has the option, for the message.

    Example:
        >>> check_option('InvPHead', 'hops', 2.5, PositiveInt)
        Traceback (most recent call last):
        ...
        ValueError: InvPHead: hops = 2.5 is not valid. It must be an integer from 1 to 2147483647.
    """
    if not accepts(hint, value):
        raise ValueError(
            f'{component}: {name} = {value!r} is not valid. It must be {describe(hint)}.'
        )


def checked(cls: Class) -> Class:
    """Class decorator: the constructor refuses options that its type hints do not allow.

    The class, which is changed in place, may be a dataclass. Options that a constructor takes by
    ``**kwargs`` are checked by the base class that names them, if that is decorated as well. A
    value that is not valid raises ``ValueError``, an option that does not exist ``TypeError``.

    Example:
        >>> @checked
        ... class Head:
        ...     def __init__(self, hops: PositiveInt = 3) -> None:
        ...         self.hops = hops
        >>> Head(hop=3)
        Traceback (most recent call last):
        ...
        TypeError: Head has no option hop (= 3). Did you mean hops? Its options: hops.
    """
    init = cls.__init__  # type: ignore[misc]
    hints = get_type_hints(init, include_extras=True)
    _, *parameters = inspect.signature(init).parameters.values()
    positional = [each.name for each in parameters if each.kind == each.POSITIONAL_OR_KEYWORD]
    takes_all = _takes_all(parameters)

    @functools.wraps(init)
    def checking_init(self: Any, *args: Any, **kwargs: Any) -> None:
        component = type(self).__name__
        for name, value in [*zip(positional, args, strict=False), *kwargs.items()]:
            if name in hints:
                check_option(component, name, value, hints[name])
            elif not takes_all:
                raise TypeError(unknown_option(component, name, value, options_of(type(self))))
        init(self, *args, **kwargs)

    cls.__init__ = checking_init  # type: ignore[misc]
    return cls


def unknown_option(component: str, name: str, value: Any, valid: Iterable[str]) -> str:
    """Message for an option that a component does not have."""
    return (
        f'{component} has no option {name} (= {value!r}).{suggest(name, valid)} Its options: '
        f'{", ".join(valid)}.'
    )


def suggest(name: str, valid: Iterable[str]) -> str:
    """A sentence with the valid names that are close to this one; empty if there are none.

    Example:
        >>> suggest('modle', ['model', 'optimizer'])
        ' Did you mean model?'
    """
    close = get_close_matches(name, sorted(valid))
    return f' Did you mean {" or ".join(close)}?' if close else ''


def options_of(component: Any) -> dict[str, inspect.Parameter]:
    """Keywords that a component accepts, by name, including those of its base classes.

    A base class counts if ``__init__`` of the class before it takes ``**kwargs``.
    """
    kinds = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    named: dict[str, inspect.Parameter] = {}
    for parameters in _constructors(component):
        for each in parameters:
            if each.kind in kinds:
                named.setdefault(each.name, each)
    named.pop('self', None)
    return named


def _constructors(component: Any) -> Iterator[list[inspect.Parameter]]:
    """Parameters of a constructor and of those that receive its ``**kwargs``."""
    for one in inspect.getmro(component) if inspect.isclass(component) else (component,):
        function = vars(one).get('__init__') if inspect.isclass(one) else one
        if function is None:
            continue
        parameters = list(inspect.signature(function).parameters.values())
        yield parameters
        if not _takes_all(parameters):
            return


def _takes_all(parameters: Iterable[inspect.Parameter]) -> bool:
    return any(each.kind == each.VAR_KEYWORD for each in parameters)
