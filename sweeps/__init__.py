"""Studies: one short file each, to run as it is or to copy."""
