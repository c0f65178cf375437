"""Every cheat by itself, with what catches it; the table in certvae/README.md lists them."""

import hashlib
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from certvae.errors import BundleFault
from certvae.verifier import folder as files
from certvae.verifier import verify
from certvae.verifier.bundle import opened
from certvae.verifier.checks import check_rows_alone
from certvae.verifier.programs import Program
from tests.small_bundles import Parts, bundled, forged

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
        refused(target, f"format {files.FORMAT + 1}", "a newer one")


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

    def test_fewer_looks_or_another_level(self, honest, target):
        def change(parts: Parts) -> None:
            parts.record["settings"]["delta"] = 0.5

        refused(forged(honest, target, change), "from pixels")

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
        assert "1 rows repeat others, or are train or guard rows" in said
        assert "in the population  no claim" in said
        assert "head not asked; mean not asked; channel open" in said
        assert parts.record["claim"]["population_bound"] is None

    def test_rows_that_repeat_make_no_claim_on_a_population(self, honest, target):
        parts = Parts.of(honest)
        for name in ("digests_certify", "images", "teacher"):
            parts.rows[name][7] = parts.rows[name][3]
        parts.recorded()
        said = str(verify(parts.write(target)))
        assert "of which 1 rows repeat others" in said
        assert "in the population  no claim" in said


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
