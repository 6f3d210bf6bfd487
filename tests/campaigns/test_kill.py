"""A short run of the kill campaign."""

import os
import signal

import pytest
import torch

from .kill import Campaign, Lost, campaign, check_end, differing, final_state


@pytest.mark.slow
def test_killed_runs_end_as_if_they_were_not():
    counts, lost = campaign(3, seed=0)
    assert not lost
    assert sum(count['SIGKILL'] + count['SIGTERM'] for count in counts.values()) >= 3


@pytest.mark.slow
def test_a_lost_run_is_noticed(tmp_path):
    """A changed weight in the checkpoint, and one that cannot be resumed."""
    runs = Campaign(tmp_path, seed=0)
    reference = runs.reference('SeLa')
    work = tmp_path / 'SeLa'
    checkpoint = torch.load(work / 'epoch_4.pth')
    checkpoint['state_dict']['backbone.conv1.weight'][0, 0, 0, 0] += 1e-7
    torch.save(checkpoint, work / 'epoch_4.pth')
    assert differing(reference.state, final_state(work)) == ['backbone.conv1.weight']
    pid = os.fork()
    if not pid:
        os._exit(1)
    with pytest.raises(Lost, match='ended with 1'):
        check_end(pid, work)
    pid = os.fork()
    if not pid:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        os._exit(143)  # Without the command to resume.
    (work / 'log.txt').write_text('')
    with pytest.raises(Lost, match='does not print how to resume'):
        check_end(pid, work, signal.SIGTERM)
