# Study of the sampling: negatives from the farthest tenth of the images of other clusters.
_base_ = 'interclr-npid-study-random_resnet50-mlp_8xb32-coslr-100e_in1k.py'

model = dict(branch=dict(negatives='semi_easy'))
