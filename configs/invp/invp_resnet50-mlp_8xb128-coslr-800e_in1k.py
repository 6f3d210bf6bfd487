# On 8 GPUs with 128 images each. The learning rate follows the linear scaling rule,
# 0.03 x 1024 / 128, which is not in the paper. For its total batch of 128 on 8 GPUs, set
# train_dataloader.batch_size=16 and optim_wrapper.optimizer.lr=0.03.
_base_ = 'invp_resnet50-mlp_1xb128-coslr-800e_in1k.py'

optim_wrapper = dict(optimizer=dict(lr=0.24))
auto_scale_lr = dict(base_batch_size=1024)
