"""Rows to frames, frames to numbers, numbers to pictures."""
