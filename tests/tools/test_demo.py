import json

import pytest

import demo


def test_epochs_are_counted_while_the_log_is_written(tmp_path):
    assert demo.epochs_done(tmp_path) == 0
    folder = tmp_path / '20260101_000000' / 'vis_data'
    folder.mkdir(parents=True)
    lines = [json.dumps(dict(loss=1.0, epoch=epoch, step=epoch)) for epoch in (1, 2, 3)]
    lines += [json.dumps(dict(purity=50.0, step=3))]
    (folder / 'scalars.json').write_text('\n'.join(lines) + '\n{"loss": 0.5, "epo')
    assert demo.epochs_done(tmp_path) == 2


def test_one_value_has_no_standard_error():
    assert demo.mean_and_error([97.25]) == '97.2'
    assert demo.mean_and_error([1.0, 2.0, 3.0]) == '2.0 ± 0.6'


def test_a_run_that_fails_ends_the_demo_with_the_end_of_its_log(tmp_path, monkeypatch):
    monkeypatch.setattr(demo, 'CONFIG', demo.ROOT / 'configs/missing.py')
    with pytest.raises(SystemExit, match=r'(?s)ended with exit code.*missing\.py'):
        demo.train_one(tmp_path, demo.INVP, 0, 50, lambda completed: None)


def test_the_picture_shows_every_measure(tmp_path):
    values = {'kNN': [90.0, 92.0], 'clusters, NMI': [40.0, 44.0]}
    rows = (demo.UNTRAINED, demo.TWIN, demo.INVP)
    demo.draw(dict.fromkeys(rows, values), tmp_path / 'demo.png')
    assert (tmp_path / 'demo.png').stat().st_size > 1000
