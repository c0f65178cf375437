"""Graphs of stages, one file per protocol, and the chain that walks them."""

from certvae.protocols.chain import STAGES, Chain, Row, graph, judge, train

__all__ = ["STAGES", "Chain", "Row", "graph", "judge", "train"]
