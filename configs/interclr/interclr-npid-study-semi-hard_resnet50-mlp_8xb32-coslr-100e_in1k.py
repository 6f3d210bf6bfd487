# Study of the sampling, its best setting: negatives from the nearest tenth of other clusters.
_base_ = 'interclr-npid-study-random_resnet50-mlp_8xb32-coslr-100e_in1k.py'

model = dict(branch=dict(negatives='semi_hard'))
