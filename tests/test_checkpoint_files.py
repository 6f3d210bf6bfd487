"""Damage of checkpoint files is found, and the newest intact one is chosen."""

import os
import zipfile

import pytest
import torch

from mmselfsup_invp.checkpoint_files import (
    checkpoints_of,
    damage_of,
    latest_checkpoint,
    newest_intact,
    require_intact,
)

WEIGHTS = torch.arange(20_000.0)


@pytest.fixture
def file(tmp_path):
    torch.save(dict(meta=dict(epoch=1), state_dict=dict(weight=WEIGHTS)), tmp_path / 'epoch_1.pth')
    return tmp_path / 'epoch_1.pth'


def test_what_torch_saves_is_intact(file):
    assert damage_of(file) is None
    require_intact(file)


@pytest.mark.parametrize('length', [0, 1, 0.1, 0.5, 0.999])
def test_a_truncated_file(file, length):
    content = file.read_bytes()
    file.write_bytes(content[: int(length) if length in (0, 1) else int(len(content) * length)])
    assert damage_of(file) == 'truncated'
    with pytest.raises(ValueError, match='epoch_1.pth is truncated: the run was stopped while'):
        require_intact(file)


def test_every_changed_byte_of_the_content_is_found(file):
    """torch.load reads the changed weights without an error."""
    content = bytearray(file.read_bytes())
    start = content.index(WEIGHTS[:100].numpy().tobytes())
    generator = torch.Generator().manual_seed(0)
    for offset in torch.randint(WEIGHTS.nbytes, (20,), generator=generator).tolist():
        changed = content.copy()
        changed[start + offset] ^= 1
        file.write_bytes(changed)
        assert not torch.equal(torch.load(file)['state_dict']['weight'], WEIGHTS)
        assert damage_of(file) == 'corrupt (checksum of epoch_1/data/0)'


def test_zeroed_blocks_are_found_wherever_they_are(file):
    content = file.read_bytes()
    for start in range(0, len(content), 4096):
        block = content[start : start + 4096]
        file.write_bytes(content[:start] + bytes(len(block)) + content[start + 4096 :])
        assert damage_of(file), start


@pytest.mark.parametrize('name', ['text', 'folder', 'missing'])
def test_what_is_no_checkpoint(tmp_path, name):
    (tmp_path / 'text').write_text('weights')
    (tmp_path / 'folder').mkdir()
    assert damage_of(tmp_path / name).startswith(('truncated', 'unreadable'))


def test_bombs_are_refused_without_expanding_them(tmp_path):
    with zipfile.ZipFile(tmp_path / 'bomb.pth', 'w', zipfile.ZIP_DEFLATED) as archive:
        archive.writestr('bomb/data.pkl', bytes(2**24))
    assert damage_of(tmp_path / 'bomb.pth') == 'compressed, which torch.save never does'
    with zipfile.ZipFile(tmp_path / 'overlap.pth', 'w') as archive:
        archive.writestr('0', bytes(2**16))
        for number in range(1, 4):  # All members are the first one.
            archive.filelist.append(archive.filelist[0])
            archive.NameToInfo[str(number)] = archive.filelist[0]
    assert damage_of(tmp_path / 'overlap.pth') == 'larger in its table of contents than on disk'


class TestNewest:
    @pytest.fixture
    def folder(self, tmp_path):
        """Checkpoints of epochs 8, 9 and 10, written in this order."""
        for number in (8, 9, 10):
            self.save(tmp_path / f'epoch_{number}.pth', number)
        return tmp_path

    def save(self, path, time):
        torch.save({}, path)
        os.utime(path, (time, time))

    def record(self, folder, text, time):
        (folder / 'last_checkpoint').write_text(text)
        os.utime(folder / 'last_checkpoint', (time, time))

    def names(self, folder):
        return [path.stem for path in checkpoints_of(folder)]

    def test_without_a_record_the_highest_number(self, folder):
        self.save(folder / 'best_accuracy_epoch_11.pth', 11)
        assert self.names(folder) == ['epoch_10', 'epoch_9', 'epoch_8']

    def test_the_recorded_one_comes_first_in_a_moved_folder_too(self, folder):
        self.record(folder, '/elsewhere/epoch_9.pth', 20)
        assert self.names(folder) == ['epoch_9', 'epoch_10', 'epoch_8']

    def test_one_that_was_written_after_the_record_is_newer(self, folder):
        self.record(folder, 'epoch_9.pth', 9)
        assert self.names(folder) == ['epoch_10', 'epoch_9', 'epoch_8']

    @pytest.mark.parametrize('record', ['epoch_7.pth', '', 'epoch_1\0'])
    def test_a_record_that_leads_nowhere_is_ignored(self, folder, record):
        self.record(folder, record, 20)
        assert self.names(folder) == ['epoch_10', 'epoch_9', 'epoch_8']

    def test_checkpoints_in_another_folder(self, folder, tmp_path):
        work = tmp_path / 'work'
        work.mkdir()
        self.record(work, str(folder / 'epoch_9.pth'), 20)
        assert checkpoints_of(work) == [folder / 'epoch_9.pth']

    def test_damaged_ones_are_passed_over(self, folder):
        self.record(folder, 'epoch_10.pth', 20)
        (folder / 'epoch_10.pth').write_bytes(b'')
        (folder / 'epoch_9.pth').write_bytes((folder / 'epoch_9.pth').read_bytes()[:-1])
        newest, damaged = newest_intact(folder)
        assert newest == folder / 'epoch_8.pth' == latest_checkpoint(folder)
        assert damaged == ['epoch_10.pth is truncated', 'epoch_9.pth is truncated']

    def test_without_an_intact_one_the_damaged_are_named(self, tmp_path):
        (tmp_path / 'epoch_1.pth').write_bytes(b'')
        assert newest_intact(tmp_path) == (None, ['epoch_1.pth is truncated'])
        with pytest.raises(FileNotFoundError, match=r'no intact .* \(epoch_1.pth is truncated\)'):
            latest_checkpoint(tmp_path)
