# The objective of the official code, where it differs from the paper. Its training loop also ends
# after 799 epochs: train_cfg = dict(max_epochs=799).
_base_ = 'invp_resnet50-mlp_1xb128-coslr-800e_in1k.py'

model = dict(
    head=dict(
        propagation='concat',  # a list with repeats and the image itself, not a set
        loss=dict(
            background='official',  # easy positives stay in the background
            instance_background='topm',  # without the image itself where it ranks below M
            eps=1e-7,  # added inside the logarithm
        ),
    ),
    memory=dict(init='uniform'),  # random entries, rows not normalised
)
