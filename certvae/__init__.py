"""Certificates against constant collapse in variational autoencoders."""
