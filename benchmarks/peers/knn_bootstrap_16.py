"""The kNN bootstrap with 16 neighbours."""

from benchmarks.peers._knn_bootstrap import knn_bootstrap

PEER = knn_bootstrap(16)
