# SVHN by the recipe for CIFAR-10, as in the official code, without the split `extra`. The images
# are written as folders by
#   python tools/convert_dataset.py svhn data/svhn
_base_ = 'cifar10_invp.py'

data_root = 'data/svhn/'

train_dataloader = dict(dataset=dict(data_root=data_root))
gallery_dataloader = dict(dataset=dict(data_root=data_root))
query_dataloader = dict(dataset=dict(data_root=data_root))
