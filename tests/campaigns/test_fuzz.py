"""A short run of the fuzz campaign."""

import pytest

from .fuzz import Case, campaign, configs, run


@pytest.fixture(scope='module')
def cfgs(tmp_path_factory):
    return configs(tmp_path_factory.mktemp('fuzz'))


@pytest.mark.slow
def test_wrong_options_are_refused_by_name():
    outcomes, rest = campaign(60, seed=0)
    assert not any(outcomes[one] for one in ('silent', 'crash', 'late', 'traceback')), rest
    assert outcomes['named'] >= 57, rest


@pytest.mark.slow
def test_a_valid_option_trains(cfgs, tmp_path):
    """So that a refusal in the campaign is one of the option, not of the whole config."""
    for name, cfg in cfgs.items():
        case = Case(name, ('default_hooks', 'logger', 'interval'), 'interval', 2)
        outcome, text = run(case, cfg, tmp_path)
        assert outcome == 'silent', text
