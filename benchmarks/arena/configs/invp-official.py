# The objective of InvP's official code to the letter, as in configs/invp/invp-official_*.
_base_ = 'invp.py'

model = dict(
    head=dict(
        propagation='concat',
        loss=dict(background='official', instance_background='topm', eps=1e-7),
    ),
    memory=dict(init='uniform'),
)
