"""Every cheat by itself, with what catches it; the table in certvae/README.md lists them."""

import dataclasses
import hashlib
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from certvae.bundle import of_data
from certvae.errors import BundleFault
from certvae.verifier import folder as files
from certvae.verifier import verify
from certvae.verifier.bundle import opened
from certvae.verifier.checks import check_rows_alone
from certvae.verifier.programs import Program
from certvae.verifier.rigorous import enclosed
from tests.protocols.test_simplex_chain import SMALL, cell
from tests.small_bundles import DATA, Parts, bundled, forged

FIRED = Path("fired")
MANY = settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture(scope="module")
def honest(tmp_path_factory) -> Path:
    return bundled(tmp_path_factory.mktemp("honest"))[0]


@pytest.fixture
def target(tmp_path) -> Path:
    return tmp_path / "forged"


def refused(folder: Path, *words: str) -> None:
    with pytest.raises(BundleFault) as caught:
        verify(folder)
    assert all(word in str(caught.value) for word in words), str(caught.value)


class TestBytes:
    @MANY
    @given(name=st.sampled_from(sorted({*files.NAMES, files.MANIFEST})), share=st.floats(0, 1), bit=st.integers(0, 7))
    def test_one_flipped_bit_anywhere(self, honest, tmp_path, name, share, bit):
        path = honest / name
        whole = path.read_bytes()
        data = bytearray(whole)
        data[min(int(share * len(data)), len(data) - 1)] ^= 1 << bit
        path.write_bytes(bytes(data))
        try:
            refused(honest, name)
        finally:
            path.write_bytes(whole)

    def test_a_file_that_is_missing(self, honest, target):
        shutil.copytree(honest, target)
        (target / files.ROWS).unlink()
        refused(target, files.ROWS, "missing")

    def test_a_link_to_something_else(self, honest, target):
        shutil.copytree(honest, target)
        (target / files.ROWS).unlink()
        (target / files.ROWS).symlink_to(honest / files.ROWS)
        refused(target, "no plain file")

    def test_one_that_may_not_be_read(self, honest, target, monkeypatch):
        def forbidden(path: Path) -> bytes:
            raise PermissionError(13, "Permission denied", str(path))

        monkeypatch.setattr(Path, "read_bytes", forbidden)
        refused(honest, "cannot be read", "Permission denied")

    def test_no_bundle(self, tmp_path):
        refused(tmp_path, files.MANIFEST, "certvae bundle")

    def test_a_newer_version(self, honest, target, monkeypatch):
        parts = Parts.of(honest)
        with monkeypatch.context() as later:
            later.setattr(files, "FORMAT", files.FORMAT + 1)
            parts.write(target)
        refused(target, f"format {files.FORMAT + 1}", "a newer version")


class Fires:
    """A pickle that leaves a file behind where it is loaded."""

    def __reduce__(self):
        return (Path.touch, (FIRED,))


class TestCode:
    @pytest.mark.parametrize("name", ["model.py", "program.pt2", "weights.pkl", "__init__.py"])
    def test_a_file_that_could_hold_code(self, honest, target, name):
        shutil.copytree(honest, target)
        (target / name).write_bytes(pickle.dumps(Fires()))
        refused(target, name, "no code")

    @pytest.mark.parametrize("name", sorted(files.NAMES))
    def test_a_pickle_under_a_name_of_ours_is_never_loaded(self, honest, target, name, monkeypatch, tmp_path):
        monkeypatch.chdir(tmp_path)
        bad = pickle.dumps(Fires())
        _, given = files.read(honest)
        _rewrite(given | {name: bad}, target)
        refused(target, name, "malformed")
        assert not FIRED.exists()


def _rewrite(given: dict[str, bytes], target: Path) -> None:
    target.mkdir()
    for name, data in given.items():
        (target / name).write_bytes(data)
    listed = {name: [len(data), hashlib.sha256(data).hexdigest()] for name, data in given.items()}
    told = files.text({"format": files.FORMAT, "files": listed})
    (target / files.MANIFEST).write_bytes(hashlib.sha256(told).hexdigest().encode() + b"\n" + told)


class TestNetwork:
    @pytest.mark.parametrize("read", ["x", "body", "teacher", ["z", "x"], None])
    def test_a_head_that_reads_more_than_the_latent(self, honest, target, read):
        refused(
            forged(honest, target, lambda parts: parts.network["programs"]["head"].update(reads=read)), "'head' reads"
        )

    def test_a_head_has_no_way_to_see_the_image(self, honest):
        """Equal latent rows of different images get equal logits: the program has one input."""
        bundle = opened(honest)
        images = bundle.rows["images"]
        z = np.zeros((2, 6))
        assert images[0].tolist() != images[1].tolist()
        one, other = bundle.programs["head"](z)
        assert one.tolist() == other.tolist()

    @pytest.mark.parametrize("layer", [["batch_norm", "a", "b"], ["softmax", 0], ["eval", "1"], "relu", 7, {}, None])
    def test_a_layer_that_is_not_in_the_set(self, honest, target, layer):
        refused(
            forged(honest, target, lambda parts: parts.network["programs"]["body"]["layers"].append(layer)), "no layer"
        )

    def test_an_operation_across_rows(self, honest):
        """Nothing in the set can do it; the check would see it all the same."""
        bundle = opened(honest)
        body = bundle.programs["body"]
        bundle.programs["body"] = Program([*body.layers, lambda rows: rows - rows.mean(dim=0)])
        with pytest.raises(BundleFault, match="alone, or in another order"):
            check_rows_alone(bundle, bundle.rows["images"])

    def test_an_operation_that_reads_the_place_of_a_row(self, honest):
        bundle = opened(honest)
        body = bundle.programs["body"]
        bundle.programs["body"] = Program([*body.layers, lambda rows: rows + torch.arange(len(rows))[:, None]])
        with pytest.raises(BundleFault, match="alone, or in another order"):
            check_rows_alone(bundle, bundle.rows["images"])

    def test_teacher_rows_learned_by_heart(self, honest, target):
        """A bias with a row for every image."""

        def change(parts: Parts) -> None:
            bias = parts.network["programs"]["head"]["layers"][-1][2]
            parts.weights[bias] = np.log(parts.rows["teacher"]).astype(np.float32)

        refused(forged(honest, target, change), "1 dimensions")

    @pytest.mark.parametrize("name", ["head", "body", "logvar"])
    def test_a_program_that_is_left_out(self, honest, target, name):
        refused(forged(honest, target, lambda parts: parts.network["programs"].pop(name)), "malformed")


class TestClaim:
    @pytest.mark.parametrize("name", ["margin", "betting_bound", "info", "loss", "kl_rate", "affine_gain", "n"])
    def test_another_number(self, honest, target, name):
        def change(parts: Parts) -> None:
            parts.record["claim"][name] += 1

        refused(forged(honest, target, change), name, "from pixels")

    @pytest.mark.parametrize("question", ["head", "mean", "channel"])
    def test_another_word(self, honest, target, question):
        refused(
            forged(honest, target, lambda parts: parts.record["words"].update({question: "fine"})), question, "fine"
        )

    @pytest.mark.parametrize(("name", "value"), [("delta", 0.5), ("looks", 2), ("claims", 1)])
    def test_other_looks_claims_or_level(self, honest, target, name, value):
        assert opened(honest).settings["claims"] == 4
        change = {name: value}
        refused(forged(honest, target, lambda parts: parts.record["settings"].update(change)), "from pixels")

    @pytest.mark.parametrize("claims", [0, 0.25, "1", None, True])
    def test_claims_that_are_not_counted(self, honest, target, claims):
        refused(forged(honest, target, lambda parts: parts.record["settings"].update(claims=claims)), "claims: wanted")

    def test_what_is_shown_says_how_many_claims_share_the_error(self, honest):
        verified = verify(honest)
        assert verified.found.certificate.delta == 0.05 / 4
        assert "the 4 claims of its config share 0.05 equally" in str(verified)

    def test_a_gain_that_hides_a_dead_channel(self, honest, tmp_path):
        """Means shrunk, the head blown up: the margin on means is what it was, and the channel carries nothing."""

        def change(parts: Parts) -> None:
            for name in ("mu.weight", "mu.bias"):
                parts.weights[name] = parts.weights[name].astype(np.float64) * 1e-4
            for name in ("head.0.weight", "affine_means.weight"):
                parts.weights[name] = parts.weights[name].astype(np.float64) * 1e4
            for name in ("logvar.weight", "logvar.bias"):
                parts.weights[name] = np.zeros_like(parts.weights[name])

        before = opened(honest).record
        refused(forged(honest, tmp_path / "forged", change), "in the record", "from pixels")
        parts = Parts.of(honest)
        change(parts)
        parts.recorded()
        confessed = verify(parts.write(tmp_path / "confessed"))
        assert confessed.found.claim["margin"] == pytest.approx(before["claim"]["margin"], abs=1e-6)
        assert confessed.found.words["channel"] == "dead"

    def test_a_fitted_head_left_out_hides_no_dead_channel(self, honest, target):
        """The rate is computed whatever heads there are."""
        parts = Parts.of(honest)
        for name in ("affine_means", "affine_draws"):
            del parts.network["programs"][name]
        for name in ("mu.weight", "mu.bias", "logvar.weight", "logvar.bias"):
            parts.weights[name] = np.zeros_like(parts.weights[name])
        parts.recorded()
        assert verify(parts.write(target)).found.words == {"head": "not certified", "mean": None, "channel": "dead"}

    def test_a_text_that_speaks_to_the_terminal(self, honest, target):
        parts = Parts.of(honest)
        parts.record["about"]["study"] = "\x1b[2Jcertified"
        said = str(verify(parts.write(target)))
        assert "\x1b" not in said
        assert "certified" in said


class TestTeacher:
    def test_other_teacher_rows(self, honest, target):
        def change(parts: Parts) -> None:
            parts.rows["teacher"] = parts.rows["teacher"][::-1].copy()

        refused(forged(honest, target, change), "teacher rows")

    def test_another_teacher(self, honest, target):
        def change(parts: Parts) -> None:
            parts.weights["teacher.means"] += 1

        refused(forged(honest, target, change), "teacher rows")

    def test_a_teacher_that_saw_certify_rows_when_the_record_denies_it(self, honest, target):
        def change(parts: Parts) -> None:
            parts.rows["digests_train"] = np.concatenate([parts.rows["digests_train"], parts.rows["digests_certify"]])

        refused(forged(honest, target, change), "60 certify images", "the record says 0")

    def test_one_that_admits_it_makes_no_claim_on_a_population(self, honest, target):
        parts = Parts.of(honest)
        parts.rows["digests_guard"][0] = parts.rows["digests_certify"][7]
        parts.record["settings"]["shared_rows"] = 1
        parts.recorded()
        said = str(verify(parts.write(target)))
        assert "certify, of which 1 rows lie in train or guard" in said
        assert "1 of 60 certify rows lie in other splits (1 in guard): no claim about the population" in said
        assert "in the population  no claim" in said
        assert "head not asked; mean not asked; channel open" in said
        assert parts.record["claim"]["population_bound"] is None

    def test_rows_that_repeat_count_once(self, honest, target):
        """Thirty times the row that the head does best at: its margin rises, and its bound does not."""
        parts = Parts.of(honest)
        pairs = parts.claim().pairs
        best = (pairs.teacher * pairs.log_student).sum(axis=1).argmax()
        for name in ("digests_certify", "images"):
            parts.rows[name][:30] = parts.rows[name][best]
        parts.recorded()
        verified = verify(parts.write(target))
        said, counts = str(verified), verified.found.rows
        assert "certify rows repeat another one: the bound counts each once" in said
        once = Parts.of(target)
        for name in ("digests_certify", "images"):
            once.rows[name] = once.rows[name][counts.counted]
        alone = once.claim().claim
        bounds = [name for name in alone if name.endswith("_bound") and "affine" not in name]
        assert {name: verified.found.claim[name] for name in bounds if "sampled" not in name} == pytest.approx(
            {name: alone[name] for name in bounds if "sampled" not in name}
        )
        assert verified.found.claim["n"] == 60 > alone["n"]
        low, high = enclosed(verified.found).bound
        assert low - 1e-9 <= alone["betting_bound"] <= high + 1e-9


class TestStated:
    """What a teacher is told besides pixels is chosen by whoever writes the bundle."""

    @pytest.fixture(scope="class")
    def labelled(self, tmp_path_factory) -> Path:
        spec = dataclasses.replace(cell(), data=DATA)
        return bundled(tmp_path_factory.mktemp("labelled"), spec, "rst")[0]

    @pytest.fixture(scope="class")
    def viewed(self, tmp_path_factory) -> Path:
        spec = dataclasses.replace(cell(teacher=dataclasses.replace(SMALL, shift=1)), data=DATA)
        return bundled(tmp_path_factory.mktemp("viewed"), spec, "rst")[0]

    def test_labels_that_are_what_an_untrained_network_says(self, labelled, target):
        """They certify its head, so it is never said that pixels did; those of the data set show the cheat."""
        parts, random = Parts.of(labelled), np.random.default_rng(0)
        truth = parts.rows["labels"]
        for _ in range(50):  # a forger draws until it suits
            for name in sorted(parts.weights.keys() - {"head.weight"}):
                drawn = 2 * random.normal(size=parts.weights[name].shape) / np.sqrt(parts.weights[name].shape[-1])
                parts.weights[name] = drawn.astype(parts.weights[name].dtype)
            parts.rows["labels"] = parts.claim().pairs.log_student.argmax(axis=1)
            if parts.claim().claim["margin"] > 0:
                break
        parts.recorded()
        verified = verify(parts.write(target))
        assert verified.found.claim["margin"] > 0
        assert "verified from pixels" not in str(verified)
        assert str(verified).startswith("verified from labels that the bundle states, and pixels;")
        assert "that the labels are those of these images" in " ".join(str(verified).split())
        with pytest.raises(BundleFault, match="labels are not those of the data set"):
            verify(target, stated=truth)
        honest = str(verify(labelled, stated=truth))
        assert honest.startswith("verified from pixels and the labels of the data set;")
        assert "that the labels are those" not in " ".join(honest.split())

    def test_views_that_suit_the_head(self, viewed, target):
        parts = Parts.of(viewed)
        truth = parts.rows["views"]
        parts.rows["views"] = -truth
        parts.recorded()
        assert str(verify(parts.write(target))).startswith("verified from views that the bundle states, and pixels;")
        with pytest.raises(BundleFault, match="views are not those of the data set"):
            verify(target, stated=truth)
        assert of_data(viewed)[1].tolist() == truth.tolist()

    def test_a_mixture_on_features_is_told_nothing(self, honest):
        assert of_data(honest)[1] is None
        assert str(verify(honest)).startswith("verified from pixels;")


def test_names_of_a_foreign_hand_send_no_codes_to_a_terminal(honest, target):
    def weights(parts: Parts) -> None:
        parts.weights["\x1b[2J"] = np.zeros(3, np.float32)
        parts.network["programs"]["head"]["layers"][0][1] = "\x1b[2J"

    def claim(parts: Parts) -> None:
        parts.record["claim"]["\x1b[2J"] = 1.0

    for number, change in enumerate((weights, claim)):
        with pytest.raises(BundleFault) as caught:
            verify(forged(honest, target / str(number), change))
        assert "x1b[2J" in str(caught.value)
        assert "\x1b" not in str(caught.value)


def test_a_record_that_is_about_nothing_is_refused(honest, target):
    refused(forged(honest, target, lambda parts: parts.record.update(about=5)), "about is no object")


class TestRows:
    def test_other_pixels(self, honest, target):
        def change(parts: Parts) -> None:
            parts.rows["images"][3] ^= 1

        refused(forged(honest, target, change), "not those")

    def test_other_pixels_with_digests_that_fit(self, honest, target):
        def change(parts: Parts) -> None:
            for name in ("images", "digests_certify"):
                parts.rows[name] = parts.rows[name][:-1]

        refused(forged(honest, target, change))

    def test_images_must_be_brought_where_there_are_digests_alone(self, honest, target):
        images = Parts.of(honest).rows["images"]
        without = forged(honest, target, lambda parts: parts.rows.pop("images"))
        refused(without, "digests", "--images FILE.npy", "digits")
        assert verify(without, images).found.words == verify(honest).found.words
        with pytest.raises(BundleFault, match="another order"):
            verify(without, images[::-1])


CHECKED = ["claim", "settings", "words"]
JUNK = st.one_of(st.none(), st.integers(-3, 3), st.text(max_size=3), st.just([]), st.just({}), st.floats(-1, 1))


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data(), junk=JUNK)
def test_whatever_stands_in_a_document_is_refused_or_changes_nothing(honest, tmp_path_factory, data, junk):
    """One branch or leaf of the network, the settings or the claim is anything: never a crash, never another claim."""
    parts = Parts.of(honest)
    place, keys = data.draw(st.sampled_from([(parts.network, sorted(parts.network)), (parts.record, CHECKED)]))
    key = data.draw(st.sampled_from(keys))
    while isinstance(place[key], dict | list) and place[key] and data.draw(st.booleans()):
        place = place[key]
        key = data.draw(st.sampled_from(sorted(place) if isinstance(place, dict) else range(len(place))))
    place[key] = junk
    try:
        found = verify(parts.write(tmp_path_factory.mktemp("junk") / "forged")).found
    except BundleFault:
        return
    assert found.claim == pytest.approx(opened(honest).record["claim"])
