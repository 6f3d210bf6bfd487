import re

import pytest

from mmselfsup_invp.evaluation.protocols import KINDS, read_benchmark


def read_toy(tmp_path, entry, changes=None):
    (tmp_path / 'b.py').write_text(f'benchmark = {entry}' if entry else 'model = dict()')
    return read_benchmark(tmp_path / 'b.py', changes)


def options(**values):
    """A change that replaces all options."""
    return {'benchmark.options': {'_delete_': True, **values}}


@pytest.mark.parametrize(
    ('kind', 'changes', 'message'),
    [
        ('knn', {'benchmark.optins.k': 3}, "'optins'.*Its keys: name, title"),
        ('knn', {'benchmark.options.kk': 3}, "no option kk.* of kind='knn': k, temperature"),
        ('knn', options(k=3), "missing .* 'temperature'"),
        ('knn', {'benchmark.metric': 'foo'}, "metric = 'foo' is not valid.* one of 'k5_t0.1'"),
        ('knn', {'benchmark.options.k.l': 3}, 'cannot be changed by'),
        ('kn', {}, "benchmark.kind = 'kn' is not valid.* 'training', 'detection', 'knn'"),
        ('detection', options(), "metric = '' is not valid.* one of 'AP'"),
        ('training', options(), 'b lacks metric'),
        ('training', {}, "kind 'training'.*'k'"),
        ('svm', options(costs=[]), 'costs is empty'),
        ('svm', options(shots=[1]), "kind 'svm'.*no option shots"),
        ('few_shot', options(shots=[]), 'shots is empty'),
    ],
)
def test_invalid_settings_are_named(tmp_path, kind, changes, message):
    entry = dict(name='b', title='b', kind=kind, data='toy', options=dict(k=5, temperature=0.1))
    with pytest.raises(ValueError, match=message):
        read_toy(tmp_path, entry, changes)


@pytest.mark.parametrize(
    ('kind', 'option', 'value'),
    [
        ('knn', 'k', 0),
        ('knn', 'k', 'many'),
        ('knn', 'temperature', 0),
        ('similarity', 'num_neighbours', 0),
        ('similarity', 'num_others', 0),
        ('similarity', 'num_queries', 0),
        ('svm', 'costs', [0.0]),
        ('svm', 'folds', 2.5),
        ('svm', 'max_iter', 0),
        ('svm', 'rule', 'x'),
        ('few_shot', 'samples', 0),
        ('few_shot', 'shots', [0, 1]),
        ('few_shot', 'folds', 0),
        ('few_shot', 'cost_selection', 'x'),
    ],
)
def test_invalid_options_are_named(kind, option, value):
    message = re.escape(f'{option} = {value!r} is not valid')
    with pytest.raises(ValueError, match=message):
        KINDS[kind](**{option: value})


@pytest.mark.parametrize(
    ('entry', 'message'),
    [
        (None, 'b.py is no benchmark'),
        (dict(name='b', kinds='training'), "'kinds'.*Its keys: name, title, kind"),
    ],
)
def test_a_config_without_the_entry_is_refused(tmp_path, entry, message):
    with pytest.raises(ValueError, match=message):
        read_toy(tmp_path, entry)


def test_the_metric_of_knn_is_named_by_its_options(tmp_path):
    entry = dict(name='b', title='b', kind='knn', data='x', options=dict(k=5, temperature=0.1))
    wanted = {'benchmark.options.k': 1, 'benchmark.options.temperature': 0.1}
    benchmark, config, changes = read_toy(tmp_path, entry, wanted)
    assert benchmark.metric == 'k1_t0.1' and config.benchmark.options.k == 1
    assert changes == {'benchmark.options.k': 1}  # The other one changes nothing.


def test_every_kind_can_be_built():
    needed = dict(knn=dict(k=1, temperature=1))
    for name, kind in KINDS.items():
        kind(**needed.get(name, {})).metrics()
