# On 8 GPUs with 32 images each: the same total batch. The first GPU computes the labels and holds
# the features, 10 GB, and the log-probabilities of one head, 15 GB.
_base_ = 'sela_resnet50_1xb256-steplr-400e_in1k.py'

train_dataloader = dict(batch_size=32)
