# Frozen features of the last map, 2 x 2 pooled: 8192 numbers of a ResNet-50. The loaders of the
# training and the test images are in the data set's config.
_base_ = 'runtime.py'

pool_size = 2
