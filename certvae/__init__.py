"""Certificates against constant collapse in variational autoencoders. A certificate needs numpy and nothing heavier.

    import numpy as np
    from certvae import Pairs, certify

    teacher, logits = np.load("teacher.npy"), np.load("logits.npy")
    print(certify(Pairs.from_logits(teacher, logits, split="certify"), delta=0.05))

teacher (n, K): rows on the simplex, fixed before training; logits (n, K): of a head that reads the latent alone.
What is here is imported when it is asked for: `Study` runs a study, `load` opens a trained network of
a store, `certify_latents` judges an encoder that was trained elsewhere, `Monitor` one that is being trained.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from certvae.certificate import Certificate, Pairs, certify
    from certvae.engine.study import Study
    from certvae.latents import certify_latents, fit_teacher
    from certvae.loaded import load
    from certvae.monitor.watching import Monitor
    from certvae.training.used_head import UsedDiagnostics

__all__ = [
    "Certificate",
    "Monitor",
    "Pairs",
    "Study",
    "UsedDiagnostics",
    "__version__",
    "certify",
    "certify_latents",
    "fit_teacher",
    "load",
]
__version__ = "0.1.0"
_LATER = {
    "Certificate": "certvae.certificate",
    "Monitor": "certvae.monitor.watching",
    "Pairs": "certvae.certificate",
    "Study": "certvae.engine.study",
    "UsedDiagnostics": "certvae.training.used_head",
    "certify": "certvae.certificate",
    "certify_latents": "certvae.latents",
    "fit_teacher": "certvae.latents",
    "load": "certvae.loaded",
}
"""Name -> the module that has it; what it imports may take a second."""


def __getattr__(name: str) -> Any:
    if name not in _LATER:
        raise AttributeError(f"module 'certvae' has no attribute {name!r}")
    try:
        return getattr(importlib.import_module(_LATER[name]), name)
    except ModuleNotFoundError as error:
        from certvae.installed import remedy  # noqa: PLC0415

        needed = error.name or ""
        text = f"certvae.{name} needs {needed}, which is not installed: {remedy(needed)}"
        raise ModuleNotFoundError(text, name=needed) from error


def __dir__() -> list[str]:
    return sorted({*globals(), *_LATER})
