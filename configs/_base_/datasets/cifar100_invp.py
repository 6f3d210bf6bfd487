# CIFAR-100 by the recipe for CIFAR-10, as in the official code. The images are written as folders
# by
#   python tools/convert_dataset.py cifar100 data/cifar100
_base_ = 'cifar10_invp.py'

data_root = 'data/cifar100/'

train_dataloader = dict(dataset=dict(data_root=data_root))
gallery_dataloader = dict(dataset=dict(data_root=data_root))
query_dataloader = dict(dataset=dict(data_root=data_root))
