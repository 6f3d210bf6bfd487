import dataclasses
import json
import shutil

import pytest

from mmselfsup_invp.evaluation.protocols import Outcome, finished, results_table, write_outcome
from mmselfsup_invp.evaluation.protocols.data import move_data

from .jobs import knn, make_job


class TestResults:
    @pytest.fixture
    def job(self, root, backbone, tmp_path):
        return make_job(knn(root), backbone, tmp_path)

    OUTCOME = Outcome(last=50.0, best=62.5, epochs=3, metrics={'k5_t0.1': 50.0})

    def test_a_result_is_found_again(self, job):
        assert finished(job) is None
        assert write_outcome(job, self.OUTCOME) == finished(job)
        assert finished(job)['value'] == 50.0 and finished(job)['checkpoint'] == 'epoch_2.pth'
        for content in ('torn', '[]', '{"protocol": 1}'):
            job.result.write_text(content)
            assert finished(job) is None

    def test_irrelevant_settings_share_a_result(self, job):
        config = job.config.copy()
        config.train_dataloader.num_workers = 2
        config.benchmark.title = 'another title'
        backbone = dataclasses.replace(job.backbone, path=job.out / 'epoch_2.pth')
        changes = {'train_dataloader.num_workers': 2}
        same = dataclasses.replace(job, config=config, backbone=backbone, changes=changes)
        assert same.work_dir == job.work_dir and same.provenance == job.provenance

    def other_weights(job):
        state = {name: value + 1 for name, value in job.backbone.state.items()}
        return dict(backbone=dataclasses.replace(job.backbone, state=state))

    def other_options(job):
        return dict(benchmark=dataclasses.replace(job.benchmark, options=dict(k=3)))

    def other_metric(job):
        return dict(benchmark=dataclasses.replace(job.benchmark, metric='best'))

    def other_folder(job):
        config = job.config.copy()
        shutil.copytree(config.train_dataloader.dataset.data_root, job.out / 'copied')
        move_data(config, str(job.out / 'copied'))
        return dict(config=config)

    def other_list(job):
        config = job.config.copy()
        root = job.out / 'link'
        root.mkdir()
        for name in ('train', 'test'):
            (root / name).symlink_to(f'{config.train_dataloader.dataset.data_root}/{name}')
        (root / 'meta').mkdir()
        (root / 'meta/train.txt').write_text('000.png 0\n')
        (root / 'meta/test.txt').write_text('000.png 1\n')
        move_data(config, str(root))
        return dict(config=config)

    def test_other_contents_of_the_images_are_another_result(self, job, tmp_path):
        config = job.config.copy()
        shutil.copytree(config.train_dataloader.dataset.data_root, tmp_path / 'copied')
        move_data(config, str(tmp_path / 'copied'))
        job = dataclasses.replace(job, config=config)
        write_outcome(job, self.OUTCOME)
        assert finished(dataclasses.replace(job)) is not None
        for path in (tmp_path / 'copied/train').iterdir():
            path.write_bytes(path.read_bytes() + b'more')
        other = dataclasses.replace(job)
        assert finished(other) is None and other.work_dir != job.work_dir
        assert other.provenance['lists'] != job.provenance['lists']

    @pytest.mark.parametrize(
        ('change', 'part'),
        [
            (other_weights, 'checkpoint'),
            (other_options, 'config'),
            (other_metric, 'metric'),
            (other_folder, 'data'),
            (other_list, 'lists'),
            (lambda job: dict(random_init=True), 'checkpoint'),
            (lambda job: dict(seed=1), None),
        ],
    )
    def test_every_other_job_has_a_result_of_its_own(self, job, change, part):
        write_outcome(job, self.OUTCOME)
        other = dataclasses.replace(job, **change(job))
        assert finished(other) is None and other.work_dir != job.work_dir
        assert part is None or other.provenance[part] != job.provenance[part]

    def test_published_results_are_listed_unless_the_recipe_was_changed(self, job):
        published = dataclasses.replace(job.benchmark, published={'a method': 12.5})
        job = dataclasses.replace(job, benchmark=published)
        entry = write_outcome(job, self.OUTCOME)
        assert entry['published'] == [dict(method='a method', value=12.5)]
        row = '| toy | epoch_2.pth | k5_t0.1 | 50.00 | 62.50 | 3 | 0 | a method: 12.5 |'
        assert (job.out / 'results.md').read_text().splitlines()[2] == row

        changes = {'benchmark.options.k': 3, 'train_dataloader.num_workers': 2}
        entry = write_outcome(dataclasses.replace(job, changes=changes), self.OUTCOME)
        assert entry['provenance']['changes'] == {'benchmark.options.k': 3}
        assert 'not comparable: benchmark.options.k=3 |' in results_table(job.out)

    def test_results_of_one_name_are_distinguished(self, job):
        write_outcome(job, self.OUTCOME)
        other = dataclasses.replace(job, **TestResults.other_weights(job))
        write_outcome(other, self.OUTCOME)
        names = {row.split(' | ')[1] for row in results_table(job.out).splitlines()[2:]}
        assert names == {f'epoch_2.pth ({job.id})', f'epoch_2.pth ({other.id})'}
        other.result.unlink()
        assert 'epoch_2.pth |' in results_table(job.out)

    def test_results_of_others_are_listed_too(self, tmp_path):
        """In the form that docs/en/report.md describes."""
        own = [
            dict(protocol='a', metric='top-1', value=1.0),
            dict(protocol='b', metric='mAP', value=2, published=[dict(method='c'), 'd']),
            dict(protocol='c', metric='mAP'),
        ]
        (tmp_path / 'own.json').write_text(json.dumps(own))
        (tmp_path / 'torn.json').write_text('{')
        lines = results_table(tmp_path).splitlines()
        assert lines[2] == '| a | - | top-1 | 1.00 | - | - | - | - |'
        assert lines[3] == '| b | - | mAP | 2 | - | - | - | c: ? |'
        assert lines[5] == 'own.json: 1 entries without protocol, metric, value are left out.'
        assert lines[7].startswith('torn.json is no JSON file')
