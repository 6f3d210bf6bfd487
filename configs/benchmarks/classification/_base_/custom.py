# A folder of classes, given by --data: CLASS, train/CLASS, {train,val}/CLASS or {train,test}/CLASS.
# The size and the normalisation of the images are those of the pre-training.
class_folders = dict(data_root='data/custom/')
benchmark = dict(kind='own_labels', data='class-folders')
