import pytest
from mmengine.config import Config

from mmselfsup_invp.evaluation import detection_data
from mmselfsup_invp.evaluation.detection_data import check_detection_data

from .. import detectors

pytestmark = pytest.mark.detection

CELLS = ('RBC', 'WBC', 'Platelets')


@pytest.fixture
def cells(tmp_path):
    """A small set in VOC layout, and the config for it."""
    root = detectors.voc_folder(tmp_path / 'cells', classes=CELLS)
    config = Config.fromfile(detectors.BCCD)
    for loader in (config.train_dataloader, config.test_dataloader):
        loader.dataset.data_root = str(root)
    return root, config


def rename(root, old, new):
    for path in (root / 'Annotations').glob('*.xml'):
        path.write_text(path.read_text().replace(f'<name>{old}<', f'<name>{new}<'))


def another_head(root, config):
    config.model.roi_head.bbox_head.num_classes = 2


def another_head_of_a_cascade(root, config):
    head = config.model.roi_head.bbox_head
    config.model.roi_head.bbox_head = [head, dict(head, num_classes=4)]


def other_names(root, config):
    for name in CELLS:
        rename(root, name, name.lower())


def one_other_name(root, config):
    rename(root, 'WBC', 'white')


def no_annotations(root, config):
    (root / 'Annotations').rename(root / 'elsewhere')


def no_image(root, config):
    (root / 'JPEGImages/000002.jpg').unlink()


def no_list(root, config):
    (root / 'ImageSets/Main/test.txt').unlink()


def no_xml(root, config):
    (root / 'Annotations/000001.xml').write_text('<annotation><object>')


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (another_head, 'num_classes=2, but the train data have 3 classes: RBC, WBC, Platelets'),
        (another_head_of_a_cascade, 'num_classes=4, but the train data have 3'),
        (other_names, r'Without a box .*: RBC, WBC, Platelets\. .*no class.*: rbc \(2\), wbc'),
        (one_other_name, r'Without a box in the annotations: WBC\. .*: white \(1\)\. Set meta'),
        (no_annotations, '4 files .*trainval.txt lists are missing, .*Annotations/000000.xml'),
        (no_image, r'1 files .* missing, the first is .*JPEGImages/000002\.jpg'),
        (no_list, r'no list of images .*test\.txt'),
        (no_xml, r'Annotations/000001\.xml is no annotation in XML: no element found'),
    ],
)
def test_data_that_do_not_fit_are_named_before_the_run(cells, change, message):
    root, config = cells
    check_detection_data(config)
    change(root, config)
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        check_detection_data(config)


def test_classes_may_be_left_out_on_purpose(cells, monkeypatch):
    said = []
    monkeypatch.setattr(detection_data, 'print_log', lambda text, **_: said.append(text))
    _, config = cells
    for loader in (config.train_dataloader, config.test_dataloader):
        loader.dataset.metainfo.classes = CELLS[:2]
    config.model.roi_head.bbox_head.num_classes = 2
    check_detection_data(config)
    assert len(said) == 2 and 'no class, and their number: Platelets (1)' in said[0]
