"""The declaration of options: what a type hint accepts, and what the messages say."""

import dataclasses
import doctest
import inspect
import math
from collections.abc import Sequence
from typing import Annotated, Any, Literal

import numpy as np
import pytest
from mmengine import registry
from mmengine.registry import Registry

import mmselfsup_invp  # noqa: F401  (registers)
from mmselfsup_invp import options
from mmselfsup_invp.compat.host import MODELS
from mmselfsup_invp.ops import HardSampling
from mmselfsup_invp.options import (
    Choice,
    Fraction,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    Range,
    Temperature,
    accepts,
    checked,
    describe,
    options_of,
)

TABLE = dict(near=1, far=2)
# Type hint, values that it accepts, values that it refuses.
HINTS = [
    (bool, [True, False], ['no', 1, 0.0, None]),
    (int, [3, -1, np.int64(3)], [2.5, True, '3', math.nan, None]),
    (float, [0.5, 3, np.float32(1)], [math.nan, math.inf, -math.inf, True, '0.5']),
    (str, ['a'], [1, None, ['a']]),
    (PositiveInt, [1, 2**31 - 1], [0, -1, 2**31, 2.5]),
    (NonNegativeInt | None, [0, None], [-1, 'None']),
    (PositiveFloat, [1e-9, 1e6], [0, -1.0, 1e30]),
    (Fraction, [0, 1, 0.5], [1.01, -0.01]),
    (Temperature, [0.07], [0, 1e30]),
    (Literal['a', 'b'], ['a'], ['c', 1, None, ['a']]),
    (Literal[1], [1], [True, 1.0]),
    (Annotated[str, Choice(TABLE)], ['near'], ['nearest', 1, ['near']]),
    (Sequence[int], [[1, 2], (1,), ()], ['12', 3, [1, 'x'], [2.5]]),
    (tuple[int, float], [(1, 0.5), [1, 2]], [(1,), (1, 2, 3), (0.5, 1)]),
    (list[dict], [[{}]], [{}, ['x']]),
    (dict[str, int], [{'a': 1}, {}], [{'a': 'b'}, {1: 1}, []]),
    (dict, [{}], [[], 'x']),
    (Any, [None, object()], []),
    (Sequence, [[], ()], ['x', 3]),
]


@pytest.mark.parametrize(('hint', 'valid', 'wrong'), HINTS, ids=[str(hint) for hint, *_ in HINTS])
def test_what_a_hint_accepts(hint, valid, wrong):
    assert all(accepts(hint, value) for value in valid)
    assert not any(accepts(hint, value) for value in wrong)


@pytest.mark.parametrize(
    ('hint', 'text'),
    [
        (bool, 'True or False'),
        (PositiveInt | None, 'an integer from 1 to 2147483647 or None'),
        (Annotated[float, Range(0, 2, above=True)], 'a finite number above 0 and at most 2'),
        (Literal['a', 'b'], "one of 'a', 'b'"),
        (Annotated[str, Choice(TABLE)], "one of 'near', 'far'"),
        (Sequence[int], 'a list, each entry an integer'),
        (tuple[int, bool], 'a list of 2: an integer, True or False'),
        (dict[str, int], 'a dict, each value an integer'),
        (np.ndarray, 'of the type ndarray'),
    ],
)
def test_descriptions(hint, text):
    assert describe(hint) == text


class Base:
    def __init__(self, size: PositiveInt = 1) -> None:
        self.size = size


@checked
class Derived(Base):
    """Documented."""

    def __init__(self, *, flag: bool = False, **kwargs) -> None:
        super().__init__(**kwargs)
        self.flag = flag


class TestChecked:
    def test_valid_options_arrive(self):
        built = Derived(flag=True, size=3)
        assert (built.flag, built.size) == (True, 3)

    def test_the_class_keeps_its_signature_and_text(self):
        assert list(inspect.signature(Derived).parameters) == ['flag', 'kwargs']
        assert Derived.__doc__ == 'Documented.' and Derived.__name__ == 'Derived'

    def test_a_base_class_checks_its_own(self):
        with pytest.raises(ValueError, match='Derived: flag = .no. is not valid. It must be True'):
            Derived(flag='no')
        assert Derived(size=0).size == 0  # Base is not decorated.
        both = checked(type('Both', (checked(type('Base', (Base,), dict(vars(Base)))),), {}))
        with pytest.raises(ValueError, match='Both: size = 0 is not valid'):
            both(size=0)

    def test_arguments_by_position(self):
        with pytest.raises(ValueError, match='HardSampling: temperature = nan is not valid'):
            HardSampling(math.nan)

    def test_dataclasses(self):
        with pytest.raises(ValueError, match='hard_pos = .worst. .* one of .hard., .easy.'):
            dataclasses.replace(HardSampling(), hard_pos='worst')

    def test_unknown_options_are_named_with_those_of_base_classes(self):
        text = r'InvP has no option branch_weigth \(= 3\). Did you mean branch_weight.* neck, head'
        with pytest.raises(TypeError, match=text):
            MODELS.get('InvP')(backbone={}, neck={}, head={}, memory={}, branch_weigth=3)


def test_keywords_are_collected_along_the_base_classes():
    class Base:
        def __init__(self, base, *, both=0):
            pass

    class Middle(Base):
        pass

    class Derived(Middle):
        def __init__(self, own, /, both, **kwargs):
            pass

    found = options_of(Derived)
    assert set(found) == {'both', 'base'}
    assert found['both'].default is inspect.Parameter.empty  # That of Derived.


def components() -> list[type]:
    """All registered components of this package that have options of their own."""
    found = {
        component
        for root in vars(registry).values()
        if isinstance(root, Registry)
        for group in (root, *root.children.values())
        for component in group.module_dict.values()
        if inspect.isclass(component) and component.__module__.startswith('mmselfsup_invp')
    }
    return sorted((one for one in found if '__init__' in vars(one)), key=lambda one: one.__name__)


@pytest.mark.parametrize('component', components(), ids=lambda one: one.__name__)
def test_every_component_is_checked_and_its_defaults_are_valid(component):
    assert hasattr(component.__init__, '__wrapped__'), 'decorate the class with @checked'
    for name, option in inspect.signature(component).parameters.items():
        if option.kind not in (option.VAR_KEYWORD, option.VAR_POSITIONAL):
            assert option.annotation is not option.empty, name
            assert option.default is option.empty or accepts(option.annotation, option.default)


def test_examples():
    assert doctest.testmod(options).failed == 0
