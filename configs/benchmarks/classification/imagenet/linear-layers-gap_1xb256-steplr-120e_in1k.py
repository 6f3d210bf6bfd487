# Global average pooling, as in the text of the paper, and standard batch normalisation.
_base_ = 'linear-layers_1xb256-steplr-120e_in1k.py'

model = dict(pool_sizes=(1, 1, 1, 1, 1), norm='train')
benchmark = dict(
    name='imagenet-linear-gap', title='ImageNet, linear classifiers on 17 layers, globally pooled'
)
