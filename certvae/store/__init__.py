"""Whole or absent: results by the digest of what they were made from, on any disk. Light: loads no torch."""
