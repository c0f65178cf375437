"""Graphs of stages, one file per protocol, and the chain that walks them."""
