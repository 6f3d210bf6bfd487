# InvP with ResNet-50 and the two-layer neck (no normalisation layer), at its temperature.
_base_ = 'invp_resnet50.py'

model = dict(neck=dict(hid_channels=2048), head=dict(loss=dict(temperature=0.2)))
