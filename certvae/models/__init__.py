"""Networks: encoder, decoder, raw head."""

from certvae.models.nets import Decoder, Encoder, RawHead, SimplexWitness, Vae, build, load_weights, weights

__all__ = [
    "Decoder",
    "Encoder",
    "RawHead",
    "SimplexWitness",
    "Vae",
    "build",
    "load_weights",
    "weights",
]
