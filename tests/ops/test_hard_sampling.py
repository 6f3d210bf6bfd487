import dataclasses
import math

import pytest

from mmselfsup_invp.ops import HardSampling


def test_the_paper_is_the_default():
    assert dataclasses.asdict(HardSampling()) == dict(
        temperature=0.07,
        num_background=4096,
        num_hard=50,
        hard_pos='hard',
        background='exact',
        exclusive=True,
        instance_background='exact',
        eps=0.0,
    )


def test_search_width():
    assert HardSampling().search_width == 4097
    assert HardSampling(num_background=None).search_width == 0


def test_cannot_be_changed():
    with pytest.raises(dataclasses.FrozenInstanceError):
        HardSampling().eps = 1.0


@pytest.mark.parametrize(
    ('option', 'message'),
    [
        (dict(temperature=0.0), 'temperature = 0.0 is not valid'),
        (dict(temperature=-1), 'temperature = -1 is not valid'),
        (dict(eps=-1.0), 'eps = -1.0 is not valid. It must be a finite number from 0'),
        (dict(eps=math.inf), 'eps = inf is not valid. It must be a finite number'),
        (dict(num_background=0), 'num_background = 0 is not valid. It must be an integer from 1'),
        (dict(num_hard=0), 'num_hard = 0 is not valid. It must be an integer from 1'),
        (dict(hard_pos='hardest'), "one of 'hard', 'easy', 'random', 'all'"),
        (dict(background='top'), "'top' is not valid. .* one of 'exact', 'topm', 'official'"),
        (dict(instance_background='official'), "'official' is not valid. .* 'exact', 'topm'"),
    ],
)
def test_wrong_options_are_named(option, message):
    with pytest.raises(ValueError, match=message):
        HardSampling(**option)
