# Study of the labels: all images are clustered before every epoch, instead of online labels.
_base_ = 'interclr-npid-study-random_resnet50-mlp_8xb32-coslr-100e_in1k.py'

default_hooks = dict(clusters=dict(offline_interval=1))
