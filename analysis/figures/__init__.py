"""Figures: rows and curves of a store as pictures."""
