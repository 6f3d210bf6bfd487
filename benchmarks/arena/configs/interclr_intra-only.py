# The twin of InterCLR without its inter-image branch.
_base_ = 'interclr.py'

model = dict(intra_weight=1.0)
