"""Certificates against constant collapse in variational autoencoders. Importing it needs numpy and nothing heavier.

    import numpy as np
    from certvae import Pairs, certify

    teacher, logits = np.load("teacher.npy"), np.load("logits.npy")
    print(certify(Pairs.from_logits(teacher, logits, split="certify"), delta=0.05))

teacher (n, K): rows on the simplex, fixed before training; logits (n, K): of a head that reads the latent alone.
"""

from certvae.certificate import Certificate, Pairs, UsedDiagnostics, certify

__all__ = ["Certificate", "Pairs", "UsedDiagnostics", "__version__", "certify"]
__version__ = "0.1.0"
