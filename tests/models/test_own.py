"""A network of one's own: what names it, what is refused of it, and the laws, which bad networks must break."""

import dataclasses
from pathlib import Path

import pytest
import torch
from torch import nn

from certvae.canonical import digest, plain
from certvae.errors import ConfigFault
from certvae.foreign import TheirFault
from certvae.models import laws
from certvae.models.nets import Vae, build, weights
from certvae.spec.parts import Conv, LearnedHead, Mlp, Model, Module
from certvae.testing import NetworkLaws

EXAMPLES = Path(__file__).parents[2] / ".github" / "examples"
SHAPE = (1, 8, 8)
PLANTED = "tests.models.planted:Planted"


@pytest.fixture(autouse=True)
def examples(monkeypatch):
    monkeypatch.syspath_prepend(str(EXAMPLES))


def planted(**options) -> Model:
    return Model(network=Module(PLANTED, options=options), decoder_sees_teacher=False)


class OfAnExample(NetworkLaws):
    shape = SHAPE
    decoder_sees_teacher = True

    def model(self) -> Model:
        return Model(network=Module(f"mynets:{self.name}", options=self.options))


class TestResNet(OfAnExample):
    name, options = "ResNetVae", {"width": 8, "latent": 4}


class TestVit(OfAnExample):
    name, options = "VitVae", {"patch": 4, "width": 16, "depth": 1, "latent": 4}


class TestOurMlp(NetworkLaws):
    """What is asked of others holds of ours."""

    shape = SHAPE

    def model(self) -> Model:
        return Model(encoder=Mlp(hidden=(16,), latent=4))


class TestOurConv(TestOurMlp):
    def model(self) -> Model:
        return Model(encoder=Conv(channels=(8, 8), hidden=16, latent=4), decoder_sees_teacher=False)


class TestBadNetworks:
    """Each breaks one law, and the driver refuses it by this reason."""

    @pytest.mark.parametrize(
        ("flaw", "law", "told"),
        [
            ("sigmoid", "check_logits", r"decode gives values in \[0, 1\] alone"),
            ("batch_norm", "check_rows_apart", "rows of a batch influence each other in mu"),
            ("attention", "check_rows_apart", "rows of a batch influence each other in mu: a gradient leads"),
            ("batch_mean", "check_rows_apart", "in decode: a row alone and beside others differs"),
            ("unused", "check_gradients", r"no gradient reaches never\.weight, never\.bias"),
            ("dropout", "check_no_draws", "of the same rows differs from one call to the next"),
            ("hidden", "check_stored", "mu and decode is another after the network was stored and loaded"),
            ("clock", "check_same_bytes", "two networks of one seed differ in"),
        ],
    )
    def test_it_is_refused_by_the_law_and_by_the_driver(self, flaw, law, told):
        def made(seed: int) -> Vae:
            return build(planted(flaw=flaw), SHAPE, 4, seed)

        with pytest.raises(ConfigFault, match=told):
            getattr(laws, law)(made if law in {"check_same_bytes", "check_stored"} else made(0))
        with pytest.raises(ConfigFault, match=told):
            laws.check_network(planted(flaw=flaw), SHAPE, 4)

    def test_logits_that_start_in_0_to_1_are_logits(self):
        """A last layer at zero and a half is a usual start; a sigmoid was seen in it, which was not there."""
        vae = build(planted(), SHAPE, 4, 0)
        last = vae.encoder.get_submodule("network.draws")
        torch.nn.init.zeros_(last.weight)
        torch.nn.init.constant_(last.bias, 0.5)
        laws.check_logits(vae)

    def test_what_is_no_number_is_no_sigmoid(self):
        vae = build(planted(), SHAPE, 4, 0)
        torch.nn.init.constant_(vae.encoder.get_submodule("network.draws").bias, torch.nan)
        laws.check_logits(vae)

    def test_training_that_draws_is_refused(self):
        with pytest.raises(ConfigFault, match="two trainings from one start differ"):
            laws.check_training(lambda seed: build(planted(flaw="dropout"), SHAPE, 4, seed))

    @pytest.mark.parametrize(
        ("flaw", "told"),
        [
            ("one_output", r"a pair \(mu, logvar\) is wanted, got a Tensor"),
            ("short_logvar", r"logvar: floating-point numbers of shape \(., 4\) are wanted, got \(., 3\)"),
            ("flat", r"decode: floating-point numbers of shape \(1, 1, 8, 8\) are wanted, got \(1, 64\)"),
            ("no_decode", "it has no method decode"),
        ],
    )
    def test_wrong_shapes_say_which_wanted_and_found(self, flaw, told):
        with pytest.raises(ConfigFault, match=told):
            laws.check_network(planted(flaw=flaw), SHAPE, 4)

    def test_a_decoder_that_is_told_too_much_can_be_told_less(self):
        sees = dataclasses.replace(planted(), decoder_sees_teacher=True)
        with pytest.raises(ConfigFault, match=r"is given \(z, teacher\).*decoder_sees_teacher = False"):
            laws.check_network(sees, SHAPE, 4)
        laws.check_network(planted(), SHAPE, 4)

    def test_an_error_in_it_names_file_line_and_function(self):
        with pytest.raises(TheirFault, match=r"encode raised ValueError: as planted.*planted\.py:\d+"):
            build(planted(flaw="error"), SHAPE, 4, seed=0)
        with pytest.raises(TheirFault, match=r"unexpected keyword argument 'flav'.* called as .*\(.*, flav="):
            build(planted(flav="x"), SHAPE, 4, seed=0)


class TestSpec:
    def test_an_error_inside_it_keeps_its_own_remedy(self, tmp_path, monkeypatch):
        """It was told to take arguments that it takes; and what is made by `partial` has no name."""
        lines = "from functools import partial", "def f(*_): import nothing_of_this_name", "part = partial(f)"
        (tmp_path / "lazy_nets.py").write_text("\n".join(lines))
        monkeypatch.syspath_prepend(tmp_path)
        for name in ("f", "part"):
            with pytest.raises(TheirFault, match=r"ModuleNotFoundError.* install what it needs"):
                build(Model(network=Module(f"lazy_nets:{name}")), SHAPE, 4, seed=0)

    def test_the_key_holds_options_and_text_and_no_encoder(self):
        named = plain(Model(network=Module("mynets:VitVae", options={"width": 8})))
        assert named["network"].keys() == {"type", "build", "options", "source"}
        assert "encoder" not in named
        other = Model(encoder=Mlp(latent=3), network=Module("mynets:VitVae", options={"width": 8}))
        assert digest(other) == digest(named)
        assert digest(planted(flaw="unused")) != digest(planted())

    def test_a_model_of_ours_is_called_as_it_was(self):
        assert "network" not in plain(Model())

    @pytest.mark.parametrize("value", [nn.SiLU, float("nan"), {1, 2}])
    def test_options_that_json_cannot_write_are_refused_by_name(self, value):
        with pytest.raises(ConfigFault, match=r"activation must be what JSON can write.*Module\.options\.activation"):
            Module("mynets:VitVae", options={"activation": value})

    def test_tuples_are_lists_and_equal_options_one_network(self):
        one, other = (Module("mynets:VitVae", options={"sides": sides}) for sides in ((1, 2), [1, 2]))
        assert one == other
        assert hash(one) == hash(other)

    def test_the_head_is_ours_and_weights_are_stored_once(self):
        vae = build(dataclasses.replace(planted(), head=LearnedHead(hidden=(5,))), SHAPE, 4, seed=0)
        assert vae.head(torch.zeros(2, 4)).shape == (2, 4)
        assert {name.split(".")[0] for name in weights(vae)} == {"encoder", "head"}
