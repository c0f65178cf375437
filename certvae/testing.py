"""Laws for what a user brings, as classes for pytest: subclass one in a test file of your own, and run pytest.

from certvae.spec import Module
from certvae.testing import NetworkLaws

class TestMine(NetworkLaws):
    network = Module("mynets:build", options={"width": 8})
    shape = (3, 32, 32)
"""

from typing import ClassVar

from certvae.models import laws
from certvae.models.nets import Shape, Vae, build
from certvae.spec.parts import Model, Module


class NetworkLaws:
    """A network of your own can be trained, resumed, stored and certified."""

    network: ClassVar[Module]
    shape: ClassVar[Shape]
    """(C, H, W) of the images."""
    classes: ClassVar[int] = 4
    """K of the teacher."""
    decoder_sees_teacher: ClassVar[bool] = False

    def model(self) -> Model:
        """The model under test."""
        return Model(network=self.network, decoder_sees_teacher=self.decoder_sees_teacher)

    def made(self, seed: int = 0) -> Vae:
        """The network of a seed."""
        return build(self.model(), self.shape, self.classes, seed)

    def test_shapes(self) -> None:
        laws.check_shapes(self.made())

    def test_decode_gives_logits(self) -> None:
        laws.check_logits(self.made())

    def test_a_row_alone_and_in_a_batch_agree(self) -> None:
        laws.check_rows_apart(self.made())

    def test_a_call_draws_nothing(self) -> None:
        laws.check_no_draws(self.made())

    def test_the_same_seed_gives_the_same_bytes(self) -> None:
        laws.check_same_bytes(self.made)

    def test_training_gives_the_same_bytes(self) -> None:
        laws.check_training(self.made)

    def test_gradients_reach_every_parameter(self) -> None:
        laws.check_gradients(self.made())

    def test_it_is_stored_and_loaded_whole(self) -> None:
        laws.check_stored(self.made)
