# The instance loss alone: InvP without its propagation.
_base_ = 'invp.py'

model = dict(head=dict(lambda_inv=0.0))
