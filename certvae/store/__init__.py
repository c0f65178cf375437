"""Whole or absent: results by the digest of what they were made from, on any disk. Light: loads no torch."""

from certvae.store.artifact import Artifact, Content
from certvae.store.folders import Corrupt
from certvae.store.program import program_digest
from certvae.store.store import Stage, Store, Workbench, stage

__all__ = ["Artifact", "Content", "Corrupt", "Stage", "Store", "Workbench", "program_digest", "stage"]
