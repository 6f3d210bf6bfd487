# Study of the sampling: the nearest images of other clusters, in the paper worse than random ones.
_base_ = 'interclr-npid-study-random_resnet50-mlp_8xb32-coslr-100e_in1k.py'

model = dict(branch=dict(negatives='hard'))
