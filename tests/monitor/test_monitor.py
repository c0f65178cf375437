"""A monitor beside a loop: what it says of planted codes, when it speaks, and that the loop notices nothing of it."""

import json
import logging
import math
import types
from functools import partial

import numpy as np
import pandas
import pytest
import scipy.sparse
import torch
from torch import nn
from torch.utils.data import TensorDataset

from certvae import Monitor, answers
from certvae.errors import ConfigFault
from certvae.monitor.findings import Observation, findings

K, N = 4, 600
GENERATOR = np.random.default_rng(0)
KIND = GENERATOR.integers(0, K, N)
T = 0.96 * np.eye(K)[KIND] + 0.04 / K
IMAGES = torch.tensor(np.eye(K, 12)[KIND] + 0.1 * GENERATOR.normal(size=(N, 12)), dtype=torch.float32).clamp(0, 1)


def code(scale: float, images=IMAGES) -> torch.Tensor:
    return scale * images[:, :K]


def look(monitor: Monitor, scale: float, logvar: float | None = -4.0, logits=None) -> Observation:
    mu = code(scale)
    return monitor.observe(mu, None if logvar is None else torch.full_like(mu, logvar), logits=logits)


def words(found: Observation):
    return found.mean, found.channel, found.head


def test_a_healthy_code_is_said_to_be_so():
    found = look(Monitor(T, IMAGES), 3.0, logits=code(9.0))
    assert words(found) == ("varies", "alive", "certified")
    assert found.findings == ()
    assert found.row["margin"] > found.row["population_bound"] > 0
    assert str(found).startswith("step 1: head certified, mean varies, channel alive; margin +1.")


def test_a_code_that_dies_is_warned_of_before_and_told_after():
    monitor = Monitor(T, IMAGES)
    seen = [look(monitor, 3.0 * 0.55**number, logvar=0.0) for number in range(12)]
    warned = next(n for n, one in enumerate(seen) if any("reaches" in found.reason for found in one.findings))
    dead = next(n for n, one in enumerate(seen) if one.channel == "dead")
    assert warned < dead
    (error,) = (one for one in seen[dead].findings if one.severity == "error")
    assert error.quantity == "kl_rate"
    assert error.number == seen[dead].row["kl_rate"] < 0.05
    assert "KL weight" in error.remedy
    assert "2605.05813" in error.reference
    assert monitor.worst == "error"


def test_a_code_that_stays_as_it_is_is_no_trend():
    monitor = Monitor(T, IMAGES)
    for number in range(8):
        assert look(monitor, 3.0 + 0.001 * (number % 2)).findings == ()


def test_a_network_at_its_start_gives_no_alarm_until_it_had_time():
    monitor = Monitor(T, IMAGES)
    told = [look(monitor, 0.01, logvar=0.0).findings[0].severity for _ in range(6)]
    assert told == ["note"] * 4 + ["error"] * 2


def test_a_network_that_comes_to_life_slowly_gives_none():
    monitor = Monitor(T, IMAGES)
    for number in range(9):
        found = look(monitor, 0.02 * 1.2**number, logvar=0.0)
        assert {one.severity for one in found.findings} <= {"note"}


@pytest.mark.parametrize(("scale", "severity"), [(3.0, None), (0.0, "error")])
def test_an_encoder_without_a_decoder_is_judged_by_its_embedding(scale, severity):
    monitor = Monitor(T, IMAGES)
    look(monitor, 3.0, logvar=None)
    found = look(monitor, scale, logvar=None)
    assert found.channel is None
    assert monitor.worst == severity
    assert found.mean == ("varies" if severity is None else "not shown")


def test_an_embedding_that_knows_nothing_of_the_teacher_is_a_warning():
    monitor, noise = Monitor(T, IMAGES), torch.randn(N, 3, generator=torch.Generator().manual_seed(0))
    look(monitor, 3.0, logvar=None)
    (found,) = monitor.observe(noise).findings
    assert (found.severity, found.quantity) == ("warning", "largest_std")
    assert "teacher on features" in found.remedy


def test_a_head_that_lags_behind_a_live_code_is_a_note():
    (found,) = look(Monitor(T, IMAGES), 3.0, logits=torch.zeros(N, K)).findings
    assert (found.severity, found.quantity) == ("note", "margin")


@pytest.mark.parametrize(("kind", "off"), [("float16", 4e-3), ("float32", 5e-6), ("float64", 5e-7)])
def test_teacher_rows_may_be_off_by_the_rounding_of_their_type(kind, off):
    """As for `Pairs`, and as far: rows of another library are in float32, and their sums are off by some 1e-6."""
    for rows in (T.astype(kind), torch.tensor(T, dtype=getattr(torch, kind), requires_grad=True)):
        assert Monitor(rows * (1 + off), IMAGES).observe(code(3.0)).mean == "varies"
        with pytest.raises(ConfigFault, match=f"for {kind}: pass probabilities"):
            Monitor(rows * 1.1, IMAGES)


def test_teacher_rows_of_a_type_that_numpy_lacks_are_taken():
    assert Monitor(torch.eye(K)[KIND].bfloat16(), IMAGES).observe(code(3.0)).mean == "varies"


def test_a_scale_in_the_place_of_its_logarithm_is_noticed():
    """As the encoder of Pyro's tutorial returns it: the answer was that the noise drowns the code."""
    monitor, scale = Monitor(T, IMAGES), torch.full((N, K), 0.1)
    monitor.observe(code(1.0), 2 * scale.log())
    found = {one.quantity: one for one in monitor.observe(code(1.0), scale).findings}
    assert (found["least_logvar"].severity, found["least_logvar"].number) == ("warning", pytest.approx(0.1))
    assert "2 * scale.log()" in found["least_logvar"].remedy
    assert monitor.observe(code(1.0), 2 * scale.log()).findings == ()


def test_a_state_goes_into_a_checkpoint_and_on_from_there(tmp_path, caplog):
    """A monitor of a resumed run counted from 0, and took a dead code for one that has just begun."""
    first, second = Monitor(T, IMAGES), Monitor(T, IMAGES)
    for scale in (3.0, 2.0, 1.0, 0.0):
        look(first, scale, logvar=0.0)
    torch.save(first.state_dict(), tmp_path / "state.pt")
    caplog.clear()
    second.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    assert second.json() == first.json()
    assert look(second, 0.0, logvar=0.0).as_dict() == look(first, 0.0, logvar=0.0).as_dict()
    assert second.observations[-1].step == 5
    assert not caplog.text  # it has been said


def test_a_long_run_is_taken_up_in_a_time_that_grows_with_its_looks(monkeypatch):
    """Each look of a code that never varied asked all looks before it, and so did each that was loaded."""
    first, asked = Monitor(T, IMAGES), []
    looks = [(step, row) for row in (look(first, 0.0, logvar=0.0).row,) for step in range(50)]
    known = answers.mean
    monkeypatch.setattr(answers, "mean", lambda row: asked.append(row) or known(row))
    Monitor(T, IMAGES).load_state_dict({"steps": 50, "looks": looks})
    assert len(asked) < 3 * len(looks)


def test_logits_alone_will_do():
    assert words(Monitor(T, IMAGES).observe(logits=code(9.0))) == (None, None, "certified")


def test_numbers_that_are_not_finite_are_an_error_and_json_all_the_same():
    monitor = Monitor(T, IMAGES)
    seen = monitor.observe(code(math.nan))
    (found,) = seen.findings
    assert str(seen) == "step 1: not finite"
    assert (found.severity, found.number) == ("error", None)
    assert json.loads(monitor.json())["worst"] == "error"


@pytest.mark.parametrize("logvar", [100.0, 800.0, 1500.0])
@pytest.mark.filterwarnings("error")
def test_a_variance_that_overflows_is_not_finite(logvar):
    """float64 holds it for a while, and squares of such draws do not."""
    assert str(look(Monitor(T, IMAGES), 3.0, logvar=logvar)) == "step 1: not finite"


@pytest.mark.parametrize("of", [pandas.DataFrame, scipy.sparse.csr_matrix, scipy.sparse.coo_matrix])
def test_cells_in_a_data_frame_or_a_sparse_matrix_are_taken(of):
    """Columns of a data frame were picked in place of rows, or a KeyError ended the loop."""
    monitor = Monitor(np.tile(T, (2, 1)), of(np.tile(IMAGES.numpy(), (2, 1))))
    assert monitor.step(lambda rows: code(3.0, rows)).mean == "varies"


def test_a_kl_weight_that_no_unit_survives_is_told_beforehand(caplog):
    with caplog.at_level(logging.WARNING, "certvae"):
        monitor = Monitor(T, IMAGES, kl_weight=50.0, variance=0.5)
    assert monitor.worst == "warning"
    assert "a dead code is expected" in caplog.text
    alpha_crit = monitor.expected.number
    assert alpha_crit == pytest.approx(np.linalg.eigvalsh(np.cov(IMAGES.T.numpy(), bias=True))[-1] / 0.5, rel=1e-4)
    below = Monitor(T, IMAGES, kl_weight=0.9 * alpha_crit, variance=0.5)
    assert below.worst == "note"
    assert ": 2, none from" in below.expected.reason
    assert json.loads(below.json())["expected"]["number"] == pytest.approx(alpha_crit)


class TestLoop:
    def test_it_looks_as_often_as_asked_and_logs_numbers(self):
        logged, encoder = [], nn.Linear(12, 3)
        monitor = Monitor(T, IMAGES, log=logged.append, every=3)
        seen = [monitor.step(encoder) for _ in range(7)]
        assert [one is not None for one in seen] == [True, False, False] * 2 + [True]
        assert [line["certvae/step"] for line in logged] == [1, 4, 7]
        assert all(isinstance(value, float) for line in logged for value in line.values())
        assert {"certvae/affine_margin", "certvae/severity"} <= logged[0].keys()

    def test_by_default_it_takes_a_small_share_of_the_time(self):
        monitor = Monitor(T, IMAGES)
        looks = [monitor.step(lambda images: images) for _ in range(200)]
        assert looks[0] is not None
        assert sum(one is not None for one in looks) < 5

    def test_the_loop_notices_nothing(self):
        """Modes, running statistics and random numbers are as they would be without it."""
        net = nn.Sequential(nn.Linear(12, 6), nn.BatchNorm1d(6), nn.Dropout(), nn.Linear(6, 3))
        net[2].eval()
        before = {name: one.clone() for name, one in net.state_dict().items()}
        torch.manual_seed(3)
        Monitor(T, IMAGES).step(net)
        drawn = torch.rand(2)
        torch.manual_seed(3)
        assert torch.equal(drawn, torch.rand(2))
        assert (net.training, net[1].training, net[2].training) == (True, True, False)
        assert all(torch.equal(one, before[name]) for name, one in net.state_dict().items())

    @pytest.mark.parametrize(
        "form", ["the module", "a method", "a function", "a function of a function", "a method of some"]
    )
    def test_modules_rest_however_they_are_named(self, form):
        """A lambda that picks mu and logvar out of a model left dropout on, and moved running statistics."""
        net = nn.Sequential(nn.Linear(12, 6), nn.BatchNorm1d(6), nn.Dropout())
        ways = {
            "the module": net,
            "a method": net.forward,
            "a function": lambda x: net(x)[:, :3],
            "a function of a function": partial(lambda model, x: model(x), net),
            "a method of some": partial(net.forward),
        }
        before = net[1].running_mean.clone()
        Monitor(T, IMAGES).step(ways[form])
        assert torch.equal(net[1].running_mean, before)
        assert net.training

    def test_a_module_that_only_bears_the_name_of_an_attribute_is_left_alone(self, monkeypatch):
        """The images went to its device, if it came first, and not to that of the network."""
        net, seen = nn.ModuleDict({"encoder": nn.Linear(12, 3)}), []
        net["encoder"].register_forward_hook(lambda *_: seen.append((net.training, other.training)))
        monkeypatch.setitem(globals(), "encoder", other := nn.Linear(12, 3))
        holder = types.SimpleNamespace(encoder=net["encoder"])
        Monitor(T, IMAGES).step(lambda x: (net, holder.encoder(x))[1])
        assert seen == [(False, True)]

    def test_a_loop_on_a_cpu_takes_no_gpu_for_it(self, monkeypatch):
        """The state of its random numbers would bring up every card that there is, in a loop that needs none."""
        monkeypatch.setattr(torch.cuda, "device_count", lambda: 8)
        Monitor(T, IMAGES).step(nn.Linear(12, 3))
        assert not torch.cuda.is_initialized()

    def test_images_follow_the_network(self):
        """Lightning takes a module to its device when it begins; images that stayed behind ended the training."""
        seen = []

        class Moved(nn.Module):
            def __init__(self):
                super().__init__()
                self.weight = nn.Parameter(torch.zeros(1, device="meta"))

            def encode(self, x):
                seen.append(x.device.type)
                return IMAGES[:, :3]

        monitor = Monitor(T, IMAGES)
        monitor.step(Moved().encode)
        assert seen == [monitor.images.device.type] == ["meta"]

    def test_a_default_device_of_a_notebook_leaves_images_where_they_are(self):
        """Of a GPU: torch refuses rows of images on a CPU that are named by numbers on a card."""
        rows = np.eye(4)[np.arange(40) % 4]
        images = torch.rand(40, 8)
        with torch.device("meta"):
            assert Monitor(rows, images).images.device.type == "cpu"

    def test_a_finding_is_said_once_while_it_lasts(self, caplog):
        monitor = Monitor(T, IMAGES)
        with caplog.at_level(logging.WARNING, "certvae"):
            for scale in (3.0, 0.0, 0.0, 3.0, 0.0):
                look(monitor, scale, logvar=0.0)
        assert caplog.text.count("the channel is dead") == 2

    def test_of_many_guard_images_a_thousand_are_looked_at(self):
        monitor = Monitor(np.tile(T, (2, 1)), torch.cat([IMAGES, IMAGES]))
        assert len(monitor.images) == 1000
        assert monitor.step(lambda images: code(3.0, images)).mean == "varies"


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: Monitor(T[:-1], IMAGES), "the teacher row of each, in their order"),
        (lambda: Monitor(T[:5], IMAGES[:5]), "20 at least"),
        (lambda: Monitor(9 * T, IMAGES), "give probabilities"),
        (lambda: Monitor([["a"]] * N, IMAGES), "teacher_rows must be numbers"),
        (lambda: Monitor(T, list(IMAGES)), "must be a tensor or an array, found list .* torch.stack"),
        (lambda: Monitor(T, types.SimpleNamespace(shape=(N, 12), X=IMAGES)), "must be a tensor or an array"),  # AnnData
        (lambda: Monitor(T, IMAGES, every=0), "every must be 1 or more"),
        (lambda: Monitor(T, IMAGES).step(lambda x: (x, x, x)), r"a pair \(mu, logvar\) or .*, got 3 things"),
        (lambda: Monitor(T, IMAGES).step(lambda x: {"mu": x, "logvar": x}), "distribution, got dict"),
        (lambda: Monitor(T, IMAGES).step(lambda _: None), "distribution, got NoneType"),
        (lambda: Monitor(T, IMAGES).step(code(1.0)), "takes a function of images, found Tensor .* monitor.observe"),
        (lambda: Monitor(torch.tensor(KIND), IMAGES), r"must have shape \(n, K\), got \(600,\) .*one_hot"),
        (lambda: Monitor(T, IMAGES).observe(), "got neither"),
        (lambda: Monitor(T, IMAGES).observe(code(1.0), code(1.0)[:, :1]), "logvar has 1 numbers per image, and mu 4"),
        (lambda: Monitor(T, IMAGES).observe(logits=code(1.0)[:, :3]), "logits has 3 numbers .* teacher_rows 4"),
        (lambda: Monitor(T, IMAGES).observe(code(1.0)[:-1]), "give the codes of `monitor.images`"),
    ],
)
def test_what_does_not_belong_together_is_refused(make, said):
    with pytest.raises(ConfigFault, match=said):
        make()


def test_what_the_remedies_say_is_taken():
    images = torch.stack([one[0] for one in TensorDataset(IMAGES)])
    assert torch.equal(torch.stack(list(IMAGES)), images)
    whole = lambda x: (x, code(3.0, x), torch.full((len(x), K), -4.0))  # noqa: E731 - as a user writes it
    assert Monitor(T, images, every=1).step(lambda x: whole(x)[1:3]).channel == "alive"
    assert Monitor(nn.functional.one_hot(torch.tensor(KIND)), images).observe(code(3.0)).mean == "varies"


def test_a_finding_says_what_it_decided_by():
    row = {"finite": 1.0, "affine_population_bound": -0.1, "affine_margin": 0.0, "affine_gain": 0.1, "largest_std": 0.0}
    (found,) = findings(
        row,
        [Observation(step=0, row={**row, "affine_population_bound": 1.0, "posterior_std": 0.0, "affine_margin": 1.0})],
        1,
    )
    assert str(found).startswith("error: the latent is constant")
