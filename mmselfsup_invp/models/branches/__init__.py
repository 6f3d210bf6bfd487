from .online_cluster_branch import OnlineClusterBranch

__all__ = ['OnlineClusterBranch']
