from types import SimpleNamespace

import pytest
from mmengine.config import Config

from mmselfsup_invp.evaluation.protocols import (
    Benchmark,
    Job,
    detector,
    evaluate,
    results_table,
    write_outcome,
)


@pytest.mark.parametrize(
    ('loop', 'length'), [(dict(max_iters=24000), '24000 iterations'), (dict(max_epochs=4), 4)]
)
def test_a_benchmark_reports_how_long_it_trained(monkeypatch, tmp_path, loop, length):
    calls = []
    monkeypatch.setattr(
        detector, 'run_detection', lambda *_, **settings: calls.append(settings) or dict(AP50=50.0)
    )
    benchmark = Benchmark(
        name='some-detection', title='a title', kind='detection', metric='AP50', data='voc2007'
    )
    backbone = SimpleNamespace(
        path=tmp_path / 'a.pth', experiment='invp', epoch=800, fingerprint=lambda random_init: 'f'
    )
    config = Config(dict(train_cfg=loop, benchmark=dict(kind='detection')))
    job = Job(benchmark, config, backbone, tmp_path, seed=3, launcher='slurm')
    outcome = evaluate(job)
    assert calls[0]['launcher'] == 'slurm' and calls[0]['options'] == {'randomness.seed': 3}
    assert outcome.epochs == length
    write_outcome(job, outcome)
    assert f'| AP50 | 50.00 | - | {length} | 3 |' in results_table(tmp_path)
