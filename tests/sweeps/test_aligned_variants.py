"""The study of variants: each twice, from one initialisation, towards one teacher."""

from certvae.protocols import chain
from certvae.spec.baselines import Baselines
from sweeps import collapse_and_rescue
from sweeps.aligned_variants import preset


def test_six_variants_with_alignment_and_without():
    spec = preset("digits")
    assert isinstance(spec.protocol, Baselines)
    plain = [one.name for one in spec.protocol.baselines]
    assert plain == ["beta_vae_high", "kl_annealing", "free_bits", "info_vae", "gmvae", "vq_vae"]
    assert set(chain.modes(spec)) == {*plain, *(f"aligned_{name}" for name in plain)}


def test_its_teacher_is_that_of_a_rescue_chain():
    assert chain.shared(preset("digits"))["teacher"] == chain.shared(collapse_and_rescue.preset("digits"))["teacher"]
