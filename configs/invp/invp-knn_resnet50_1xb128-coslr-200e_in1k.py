# Table 5, "KNN": the nearest neighbours of the query are its positives, without any walk. The paper
# does not give their number; 50, as many as InvP has hard positives, is our choice.
_base_ = 'invp_resnet50_1xb128-coslr-200e_in1k.py'

model = dict(head=dict(positive='knn', knn_k=50))
