_base_ = '../_base_/imagenet_frozen.py'

# Figure 2a of InvP does not say which images are the queries, nor how many.
benchmark = dict(
    name='imagenet-similarity',
    title='ImageNet, similarity to the nearest images of a class and of others (Figure 2a of InvP)',
    kind='similarity',
    metric='auroc',
    data='imagenet',
    options=dict(num_neighbours=5, num_others=1500, num_queries=5000),
)
