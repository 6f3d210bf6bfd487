import numpy as np
import pytest
import torch
from mmcls.structures import ClsDataSample
from mmengine.registry import EVALUATOR
from mmengine.structures import LabelData

from mmselfsup_invp.evaluation import (
    LayerwiseMetric,
    MultiHeadEvaluator,
    VOCMeanAveragePrecision,
    mean_average_precision,
)


def predictions(num=12, layers=3, classes=4, many=False, seed=0):
    """Samples as the runner hands them on, with their scores and labels."""
    random = torch.Generator().manual_seed(seed)
    scores = torch.randn(num, layers, classes, generator=random)
    labels = torch.randint(classes, (num,), generator=random).tolist()
    packed = []
    for own, label in zip(scores, labels, strict=True):
        sample = ClsDataSample().set_gt_label([label, (label + 1) % classes] if many else label)
        sample.set_metainfo(dict(gt_label_difficult=[(label + 2) % classes] if many else []))
        sample.set_field(own, 'layer_scores')
        sample.set_pred_score(own[0])
        packed.append(sample)
    return packed, scores, torch.tensor(labels)


def evaluate(metric, packed):
    metric.process({}, [sample.to_dict() for sample in packed[:5]])
    metric.process({}, [sample.to_dict() for sample in packed[5:]])
    return metric.evaluate(len(packed))


def test_accuracy_of_each_layer_and_the_best():
    packed, scores, labels = predictions()
    found = evaluate(LayerwiseMetric(['stem', 'a', 'b']), packed)
    expected = (scores.argmax(dim=2) == labels[:, None]).float().mean(dim=0) * 100
    names = ['layers/01_stem', 'layers/02_a', 'layers/03_b']
    assert [found[name] for name in names] == pytest.approx(expected.tolist())
    assert found['layers/best'] == pytest.approx(expected.max().item())
    assert found['layers/best_layer'] == expected.argmax() + 1


def targets(labels, classes=4):
    target = np.zeros((len(labels), classes), dtype=int)
    for row, label in enumerate(labels.tolist()):
        target[row, [label, (label + 1) % classes]] = 1
        target[row, (label + 2) % classes] = -1
    return target


def test_mean_average_precision_of_each_layer():
    packed, scores, labels = predictions(many=True)
    found = evaluate(LayerwiseMetric(score='map'), packed)
    for layer in range(3):
        expected = mean_average_precision(scores[:, layer].numpy(), targets(labels))
        assert found[f'layers/0{layer + 1}'] == pytest.approx(expected)


@pytest.mark.parametrize('many', [False, True])
class TestDivergence:
    def found(self, many, layers):
        packed, scores, _ = predictions(many=many)
        scores[3, layers, 1] = torch.nan
        return evaluate(LayerwiseMetric(score='map' if many else 'top1'), packed)

    def test_a_layer_that_diverged_does_not_count(self, many):
        expected = evaluate(
            LayerwiseMetric(score='map' if many else 'top1'), predictions(many=many)[0]
        )
        found = self.found(many, [int(expected['layers/best_layer']) - 1])
        lost = f'layers/0{expected["layers/best_layer"]}'
        assert np.isnan(found[lost]) and found['layers/best_layer'] != expected['layers/best_layer']
        others = {name: value for name, value in expected.items() if name[-2:].isdigit()}
        others.pop(lost)
        assert others.items() <= found.items()
        assert found['layers/best'] == max(others.values())

    def test_nothing_is_reported_if_all_did(self, many):
        with pytest.raises(ValueError, match='classifiers of all layers diverged'):
            self.found(many, slice(None))


def test_a_network_that_diverged_has_no_average_precision():
    packed, *_ = predictions(many=True)
    packed[2].pred_label.score[0] = torch.inf
    with pytest.raises(ValueError, match='Scores are NaN or infinite: the network diverged'):
        evaluate(VOCMeanAveragePrecision(), packed)


@pytest.mark.parametrize('rule', ['11points', 'area'])
def test_mean_average_precision_of_a_classifier(rule):
    packed, scores, labels = predictions(many=True)
    found = evaluate(VOCMeanAveragePrecision(rule), packed)
    expected = mean_average_precision(scores[:, 0].numpy(), targets(labels), rule)
    assert found['multi-label/mAP'] == pytest.approx(expected)


def test_each_head_has_figures_of_its_own():
    packed, scores, labels = predictions()
    for sample, own in zip(packed, scores, strict=True):
        for head in (0, 2):
            sample.set_field(LabelData(score=own[head]), f'head{head}_pred_label', LabelData)
    accuracy = dict(type='mmcls.Accuracy', topk=(1,))
    evaluator = MultiHeadEvaluator(dict(head0=accuracy, head2=accuracy))
    evaluator.process(packed[:5])
    evaluator.process(packed[5:])
    found = evaluator.evaluate(len(packed))
    expected = (scores.argmax(dim=2) == labels[:, None]).float().mean(dim=0) * 100
    assert found == {
        'head0/accuracy/top1': pytest.approx(expected[0].item()),
        'head2/accuracy/top1': pytest.approx(expected[2].item()),
    }


def test_any_toolbox_finds_the_evaluator():
    assert EVALUATOR.get('mmcls.MultiHeadEvaluator') is MultiHeadEvaluator


def test_unknown_names_are_refused():
    with pytest.raises(ValueError, match="score = 'top9' is not valid"):
        LayerwiseMetric(score='top9')
    with pytest.raises(ValueError, match="rule = 'all' is not valid"):
        VOCMeanAveragePrecision('all')
