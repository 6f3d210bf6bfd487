from pathlib import Path

import pytest

from .. import toy


@pytest.fixture(scope='session')
def odd_images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """21 training images: two processes see one of them twice, to come out even."""
    return toy.image_folder(tmp_path_factory.mktemp('odd') / 'images', images=21)
