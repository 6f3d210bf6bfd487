"""A batch's data samples as one object."""

import multiprocessing.reduction
import pickle

import pytest
import torch
from mmengine.registry import FUNCTIONS, DefaultScope
from mmengine.structures import InstanceData

from mmselfsup_invp.compat import host_name
from mmselfsup_invp.compat.host import DataSample, SelfSupDataPreprocessor
from mmselfsup_invp.engine.hooks.common import check_ids
from mmselfsup_invp.structures import SampleBatch, collate, sample_ids

from . import toy


def named_samples(*ids):
    samples = toy.samples(*ids)
    for sample, index in zip(samples, ids, strict=True):
        sample.set_metainfo(dict(img_path=f'{index}.png'))
    return samples


def items(*ids):
    return [
        dict(inputs=[torch.full((3, 2, 2), i)], data_samples=sample)
        for i, sample in zip(ids, named_samples(*ids), strict=True)
    ]


def test_it_gives_the_samples_back():
    batch = SampleBatch(named_samples(7, 3, 11))
    assert len(batch) == 3 and batch.ids.tolist() == [7, 3, 11]
    for found, sample in zip(batch, named_samples(7, 3, 11), strict=True):
        assert type(found) is DataSample
        assert sample_ids([found]) == sample_ids([sample])
        assert found.img_path == sample.img_path
    with pytest.raises(IndexError):
        batch[3]


class TestSampleIds:
    @pytest.mark.parametrize('kind', [list, SampleBatch])
    def test_come_in_the_order_of_the_batch(self, kind):
        found = sample_ids(kind(toy.samples(7, 3, 11)))
        assert found.tolist() == [7, 3, 11] and found.dtype == torch.int64

    @pytest.mark.parametrize('kind', [list, SampleBatch])
    def test_are_sent_where_they_are_needed(self, kind):
        assert sample_ids(kind(toy.samples(7, 3)), torch.device('meta')).device.type == 'meta'

    def test_that_are_missing_are_asked_for(self):
        with pytest.raises(ValueError, match='carry no sample_idx.*PackSelfSupInputs'):
            sample_ids([DataSample()])


class TestCollate:
    def test_ids_are_one_tensor_and_images_are_stacked(self):
        batch = collate(items(4, 2))
        assert set(batch) == {'inputs', 'data_samples'}
        assert type(batch['data_samples']) is SampleBatch
        (views,) = batch['inputs']
        assert views.shape == (2, 3, 2, 2) and views[:, 0, 0, 0].tolist() == [4, 2]

    def test_samples_that_hold_more_stay_a_list(self):
        batch = items(4, 2)
        batch[1]['data_samples'].mask = InstanceData(value=torch.tensor([0]))
        found = collate(batch)['data_samples']
        assert type(found) is list and found[1].mask.value.tolist() == [0]

    def test_batches_without_samples_are_stacked(self):
        assert torch.equal(collate([dict(x=1), dict(x=2)])['x'], torch.tensor([1, 2]))

    def test_by_its_name_with_the_scope_that_mmengine_leaves(self):
        with DefaultScope.overwrite_default_scope('mmselfsup_invp'):
            named = FUNCTIONS.get('mmselfsup_invp.default_collate')
        assert named(items(4), _scope_='mmselfsup_invp')['data_samples'].ids.tolist() == [4]

    def test_a_worker_hands_over_one_tensor(self):
        """Each tensor would be a file of shared memory, sent by itself."""

        def tensors_in(samples):
            found = []

            class Pickler(multiprocessing.reduction.ForkingPickler):
                def reducer_override(self, obj):
                    if isinstance(obj, torch.Tensor):
                        found.append(obj)
                    return NotImplemented

            with open('/dev/null', 'wb') as sink:
                Pickler(sink, pickle.HIGHEST_PROTOCOL).dump(samples)
            return len(found)

        # MMPretrain's samples hold ints.
        assert tensors_in(named_samples(*range(9))) == (9 if host_name() == 'mmselfsup' else 0)
        assert tensors_in(SampleBatch(named_samples(*range(9)))) == 1


def test_a_loader_can_pin_it(monkeypatch):
    monkeypatch.setattr(torch.Tensor, 'pin_memory', lambda self, *_: self + 100)
    batch = collate(items(4, 2))
    pinned = torch.utils.data._utils.pin_memory.pin_memory(batch)
    assert pinned['data_samples'].ids.tolist() == [104, 102]


def test_the_host_leaves_the_ids_where_they_are():
    """Its preprocessor copies a list of samples one by one to the device."""
    batch = collate(items(4, 2))
    preprocessor = SelfSupDataPreprocessor().to(torch.device('meta'))
    inputs, samples = preprocessor(batch)
    assert inputs[0].device.type == 'meta'
    assert samples is batch['data_samples'] and samples.ids.device.type == 'cpu'


class TestCheckIds:
    @pytest.mark.parametrize('kind', [list, SampleBatch])
    def test_rows_pass_and_others_are_named(self, kind):
        check_ids(kind(toy.samples(0, 8)), 9)
        for bad in (9, -1):
            with pytest.raises(ValueError, match=f'sample_idx {bad} is outside 0 to 8'):
                check_ids(kind(toy.samples(0, bad)), 9)

    @pytest.mark.skipif(host_name() == 'mmpretrain', reason='its samples hold ints')
    def test_a_look_at_a_device_is_impossible(self):
        with pytest.raises((TypeError, RuntimeError)):
            check_ids([sample.to('meta') for sample in toy.samples(0)], 9)
