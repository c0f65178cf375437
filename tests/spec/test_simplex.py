"""Specs of the simplex witness: what cannot be built."""

import dataclasses

import pytest

from certvae.errors import ConfigFault
from certvae.spec.cell import CellSpec
from certvae.spec.parts import LearnedHead, Mlp, Model, SimplexHead
from certvae.spec.simplex import Escape, Prefit, Witness
from certvae.spec.teachers import Labels, PcaGmm

MODEL = Model(encoder=Mlp(latent=16), head=SimplexHead(), decoder_sees_teacher=False)


class TestRefusals:
    @pytest.mark.parametrize(
        ("build", "said"),
        [
            (lambda: Labels(smoothing=0), "the analytic code of a row with a zero is infinite"),
            (lambda: PcaGmm(smoothing=0), "the analytic code of a row with a zero is infinite"),
            (lambda: PcaGmm(whitening=()), "whitening must be a list with at least one value"),
            (lambda: PcaGmm(whitening=(0,)), "whitening[0] must be >= 1"),
            (lambda: PcaGmm(covariance=("round",)), "one of diag, tied, spherical, full"),  # pyright: ignore[reportArgumentType]
            (lambda: PcaGmm(energy_budget=0), "energy_budget must be > 0"),
            (lambda: Prefit(scale=0), "scale must be > 0"),
            (lambda: Prefit(scale=1.001), "<= 1"),
            (lambda: Escape(points=0), "points must be >= 1"),
            (lambda: Witness(lambda_ts=0), "lambda_ts must be > 0"),
            (lambda: Witness(modes=()), "one or more different modes"),
            (lambda: Witness(modes=("vae", "vae")), "name each mode once"),
            (lambda: Witness(modes=("full",)), "modes[0] must be one of vae, rst"),  # pyright: ignore[reportArgumentType]
        ],
    )
    def test_says_what_was_wanted_and_what_to_do(self, build, said):
        with pytest.raises(ConfigFault) as caught:
            build()
        assert said in str(caught.value)

    @pytest.mark.parametrize(
        ("change", "said"),
        [
            ({"head": LearnedHead()}, "head must be a SimplexHead"),
            ({"decoder_sees_teacher": True}, "the decoder of this protocol reads z alone"),
            ({"encoder": Mlp(latent=8)}, "latent must be >= K - 1 = 9 for a simplex, got 8"),
        ],
    )
    def test_a_model_that_does_not_fit_the_protocol(self, change, said):
        with pytest.raises(ConfigFault, match=said):
            CellSpec(model=dataclasses.replace(MODEL, **change), protocol=Witness())

    def test_the_narrowest_latent_is_one_less_than_the_classes(self):
        narrow = dataclasses.replace(MODEL, encoder=Mlp(latent=9))
        assert CellSpec(model=narrow, protocol=Witness()).model.encoder.latent == 9
