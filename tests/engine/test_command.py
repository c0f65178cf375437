"""The command line: presets by data set, every field of the cell, and refusals before anything starts."""

import dataclasses
import itertools
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from certvae.data.loading import foreseen, load
from certvae.engine import helptext
from certvae.engine.checks import check
from certvae.engine.command import Command, anywhere, parse, seconds
from certvae.engine.main import main
from certvae.errors import ConfigFault, DataFault, ExitCode
from certvae.protocols import chain
from certvae.spec.control import CONTROLS
from certvae.spec.parts import Mlp, Module, Training
from certvae.spec.presets import encoder_for
from certvae.spec.rescue import Rescue
from certvae.spec.teachers import FeatureGmm, Given, Labels, PcaGmm
from sweeps import aligned_variants, collapse_and_rescue, mnist_simplex, search_margin_psnr, tiny_fixed_q

STUDY = tiny_fixed_q.STUDY


def test_the_paper_is_the_default():
    run, base, goal = parse(STUDY, [])
    assert (run.data, run.seeds, run.study) == ("tiny-imagenet-200", (0, 1, 2), "tiny_fixed_q")
    assert base.protocol.teacher.classes == 200
    assert goal == STUDY.goal


@pytest.mark.parametrize("flags", [["--data", "digits"], ["--data=digits"]])
def test_the_data_set_chooses_the_preset(flags):
    run, base, _ = parse(STUDY, flags)
    assert isinstance(base.model.encoder, Mlp)
    assert (run.study, base.study) == ("tiny_fixed_q-digits", "tiny_fixed_q-digits")


def test_every_field_of_the_cell_can_be_given():
    given = ["--data", "digits", "--objective.lambda-ts", "2", "--training.epochs", "3", "--seeds", "7", "8"]
    run, base, _ = parse(STUDY, [*given, "--warm-up.training.epochs", "4", "--limit", "500"])
    assert base.protocol.objective.lambda_ts == 2.0
    assert (base.training.epochs, base.protocol.warm_up.training.epochs) == (3, 4)
    assert (run.seeds, base.data.limit) == ((7, 8), 500)


def test_a_study_of_another_name_is_another_study():
    run, base, _ = parse(STUDY, ["--data", "digits", "--study", "mine"])
    assert (run.study, base.study) == ("mine", "mine")


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--objective.lambda-ts", "0"], "no_align"),
        (["--seeds", "0", "0"], "distinct"),
        (["--seeds", "-1"], "whole numbers"),
        (["--workers", "-1"], "workers must be >= 0"),
        (["--lag", "0"], "lag must be >= 1"),
        (["--search", str(10**13)], "search must be .*100000"),
        (["--search", "4", "--early-stop", "1.5"], "early_stop must be"),
        (["--search", "4", "--race", "1.5"], "race must be"),
        (["--model.encoder.hidden"], "hidden must be a list with at least one value"),
        (["--goal.psnr-drop", "-1"], "psnr_drop must be >= 0"),
        (["--study", "Bad Name"], "a name of a-z"),
        (["--study", "."], "a name of a-z"),
        (["--study", 200 * "x"], "at most 100"),
        (["--data", "folder:"], "or data of your own: folder:PATH"),
        (["--data", "npz:"], "or data of your own: folder:PATH"),
        (["--teacher", "given:"], "teacher must be given:FILE"),
        (["--teacher", "features:"], "teacher must be given:FILE"),
        (["--address", "nonsense"], "host:port of the head"),
        (["--address", "6390"], "host:port of the head"),
        (["--data", "mnits"], "did you mean 'mnist'"),
        (["--data.name", "mnist"], "name must be digits, as --data says"),
    ],
)
def test_a_value_outside_its_bounds_is_refused(flags, said):
    with pytest.raises(ConfigFault, match=said):
        parse(STUDY, ["--data", "digits", *flags])


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--objective.lambda-tss", "1"], "objective.lambda-ts"),
        (["--training.epochs", "many"], "many"),
        (["--alpha-kl", "1"], "alpha-kl"),
    ],
)
def test_unknown_flags_and_wrong_types_end_with_exit_code_2(flags, said, capsys):
    with pytest.raises(SystemExit) as ended:
        parse(STUDY, flags)
    assert ended.value.code == 2
    assert said in capsys.readouterr().err


def test_a_refusal_names_the_help_of_the_study(monkeypatch, capsys):
    for target, named in ((None, "python mine.py --help"), ("mine.py", "certvae run mine.py --help")):
        monkeypatch.setattr("sys.argv", ["mine.py"])
        with pytest.raises(SystemExit):
            parse(STUDY, ["--data", "digits", "--alpha-kl", "1"], target)
        assert named in capsys.readouterr().err
        with pytest.raises(SystemExit):
            parse(STUDY, ["--data", "digits", "--help"], target)
        assert capsys.readouterr().out.count(f"usage: {named.removesuffix('--help')}[-h]") == 2


class TestController:
    @pytest.mark.parametrize("name", CONTROLS)
    def test_each_can_be_chosen_and_brings_the_guarded_modes(self, name):
        _, base, _ = parse(STUDY, ["--data", "digits", "--controller", name, "--controller.tau", "0.2"])
        assert {"guarded_full", "guarded_rescue"} <= set(chain.modes(base))
        assert isinstance(base.protocol, Rescue)
        assert base.protocol.controller == CONTROLS[name](tau=0.2)

    def test_without_a_word_a_study_is_what_it_was(self):
        assert "guarded_full" not in chain.modes(parse(STUDY, ["--data", "digits"])[1])
        bare = parse(collapse_and_rescue.STUDY, ["--controller", "none"])[1]
        assert "guarded_full" not in chain.modes(bare)

    def test_a_study_keeps_the_fields_of_its_own(self):
        _, base, _ = parse(collapse_and_rescue.STUDY, ["--data", "mnist", "--controller", "guard"])
        assert base == parse(collapse_and_rescue.STUDY, ["--data", "mnist"])[1]

    def test_its_fields_are_in_the_help(self, capsys):
        with pytest.raises(SystemExit):
            parse(STUDY, ["--data", "digits", "--controller", "guard", "--help"])
        words = capsys.readouterr().out
        assert "--controller.patience" in words
        assert "student_first" in words

    @pytest.mark.parametrize(
        ("study", "flags", "said"),
        [
            (aligned_variants, ["--controller", "guard"], "no mode has alignment to control"),
            (mnist_simplex, ["--controller", "staged"], "no mode has alignment to control"),
            (tiny_fixed_q, ["--controller", "guard", "--controller.lambda-max", "4"], "lambda_max must be >= "),
            (tiny_fixed_q, ["--controller", "rollback", "--controller.ring", "0"], "ring must be >= 1"),
            (tiny_fixed_q, ["--controller", "barrier", "--controller.rho", "0"], "rho must be > 0"),
        ],
    )
    def test_what_cannot_work_is_refused_by_name(self, study, flags, said):
        with pytest.raises(ConfigFault, match=said):
            parse(study.STUDY, ["--data", "digits", *flags])

    def test_decisions_further_apart_than_an_epoch_are_refused_before_anything_starts(self, tmp_path):
        given = ["--data", "digits", "--controller", "guard", "--controller.every", "11"]
        base = parse(STUDY, given)[1]
        dataset = load(base.data, cache=tmp_path, progress=False)
        with pytest.raises(ConfigFault, match=r"every must be <= the 10 steps of an epoch, got 11 .* give 10 or less"):
            check(base, dataset)
        check(parse(STUDY, [*given[:-1], "10"])[1], dataset)


@pytest.mark.parametrize(("text", "wanted"), [("90s", 90), ("30m", 1800), ("1.5h", 5400), (None, None)])
def test_durations(text, wanted):
    assert seconds(text, "budget") == wanted


@pytest.mark.parametrize("text", ["6", "h", "-1h", "0s", "6 h", "1d", "", "²h", "٣h", "1e3h", "9" * 400 + "h"])
def test_durations_that_are_none(text):
    with pytest.raises(ConfigFault, match="a duration such as"):
        seconds(text, "budget")


def test_the_command_that_goes_on_is_quoted_and_means_the_same_in_any_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    given = ["--data=digits", "--store", "a b", "--data_root=x", "--training.epochs", "2", "--seeds", "0", "1"]
    run, base, goal = parse(STUDY, given)
    whole = anywhere(given, run)
    assert whole[-4:] == ["--store", str(tmp_path / "a b"), "--data-root", str(tmp_path / "x")]
    assert str(Command("m:STUDY", whole)).endswith(f"'{tmp_path / 'a b'}' --data-root {tmp_path / 'x'}")
    monkeypatch.chdir("/")
    again, *rest = parse(STUDY, whole)
    assert (again.seeds, rest) == (run.seeds, [base, goal])
    assert again.store == tmp_path / "a b"


def test_the_store_is_named_even_where_it_was_not_given(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run, _, _ = parse(STUDY, [])
    assert anywhere([], run) == ["--store", str(tmp_path / "certvae-store")]


def test_data_of_ones_own_are_described_to_the_preset_and_found_from_any_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    pixels = np.random.default_rng(0).integers(0, 256, (300, 8, 8), dtype=np.uint8)
    np.savez("Mine.npz", x=pixels, y=np.arange(300) % 3)
    run, base, goal = parse(STUDY, ["--data", "npz:Mine.npz", "--training.epochs", "2"])
    assert (base.data.name[:4], base.protocol.teacher.classes, base.training.epochs) == ("npz@", 3, 2)
    assert base.study == run.study == f"tiny_fixed_q-{base.data.name.replace('@', '-')}"
    whole = anywhere(["--data", "npz:Mine.npz", "--training.epochs", "2"], run)
    monkeypatch.chdir("/")
    assert parse(STUDY, whole)[1:] == (base, goal)


def test_images_of_several_sizes_are_scaled_as_the_remedy_says(tmp_path, monkeypatch, capsys):
    """They were described as they lie, and refused whatever size was asked for."""
    monkeypatch.chdir(tmp_path)
    Path("photos").mkdir()
    for number in range(40):
        pixels = np.random.default_rng(number).integers(0, 256, (48 + 8 * (number % 3), 40, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(f"photos/{number}.png")
    flags = ["--data", "folder:photos"]
    with pytest.raises(DataFault, match="images are not of 40 x") as raised:
        parse(STUDY, flags)
    with pytest.raises(DataFault, match="images are not of 40 x"):
        parse(STUDY, [*flags, "--help"])
    assert "--data-root" in capsys.readouterr().out  # help of what needs no data
    size = re.findall(r"--data\.size \d+", raised.value.remedy)[0].split()
    for given in (size, ["=".join(size)]):
        base = parse(STUDY, flags + given)[1]
        assert base.data.size == 64
        assert base.model.encoder == encoder_for((3, 64, 64))
    planned = STUDY.plan(data="folder:photos", fields={"data.size": 16, "training.epochs": 1}, workers=0)
    assert "rows of 3 x 16 x 16" in planned.text


def test_a_path_alone_is_told_how_it_is_named(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    pixels = np.random.default_rng(0).integers(0, 256, (20, 8, 8), dtype=np.uint8)
    np.savez("mine.npz", x=pixels)
    Path("photos").mkdir()
    Path("rows.csv").touch()
    for given, said in (("photos", "--data folder:photos"), ("rows.csv", "let a function return what that file holds")):
        with pytest.raises(ConfigFault, match=said):
            parse(STUDY, ["--data", given])
    with pytest.raises(ConfigFault) as raised:
        parse(STUDY, ["--data", "mine.npz"])
    flags = raised.value.remedy.partition(": ")[2].split()
    assert parse(STUDY, flags)[0].data == "npz:mine.npz"


def test_labels_that_are_not_there_teach_nothing(tmp_path, monkeypatch):
    """It was told by the first cell, after a run had begun."""
    monkeypatch.chdir(tmp_path)
    pixels = np.random.default_rng(0).integers(0, 256, (100, 8, 8), dtype=np.uint8)
    np.savez("mine.npz", x=pixels)
    np.savez("ours.npz", x=pixels, y=np.arange(100) % 3)

    def checked(name, *flags):
        run, base, _ = parse(STUDY, ["--data", f"npz:{name}", "--teacher", "labels", *flags])
        check(base, foreseen(base.data, run.data, cache=tmp_path / "cache"))

    with pytest.raises(DataFault, match=r"no labels.* bring labels: class folders, or an array y"):
        checked("mine.npz")
    with pytest.raises(ConfigFault, match="classes must be 3, got 4"):
        checked("ours.npz", "--teacher.classes", "4")
    checked("ours.npz")


@pytest.fixture
def nets(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "brought_nets.py").write_text("def build(shape, classes, width=1, kind='a'): ...\n")
    return tmp_path


def test_a_network_of_ones_own_is_written_with_its_options(nets):
    flags = ["--model.network", "brought_nets:build", "width=8", "kind=b", "--training.epochs", "2"]
    run, base, goal = parse(STUDY, flags)
    assert base.model.network == Module("brought_nets:build", options={"width": 8, "kind": "b"})
    assert parse(STUDY, anywhere(flags, run))[1:] == (base, goal)
    assert parse(STUDY, ["--model.network", "None"])[1].model.network is None
    preset = dataclasses.replace(STUDY, preset=lambda _: base)
    assert parse(preset, ["--data", "tiny-imagenet-200"])[1].model == base.model


@pytest.mark.parametrize("words", [["brought_nets:build", "width"], []])
def test_options_of_a_network_have_a_form(nets, words, capsys):
    with pytest.raises(SystemExit) as ended:
        parse(STUDY, ["--model.network", *words])
    assert ended.value.code == 2
    assert "name=value" in " ".join(capsys.readouterr().err.split()).lower()


@pytest.mark.parametrize(
    ("teacher", "kind"),
    [
        ("given:rows.npz", Given),
        ("features:rows.npz", FeatureGmm),
        ("features:brought_nets:build", FeatureGmm),
        ("features:torchvision:resnet18", FeatureGmm),
        ("pixels", PcaGmm),
        ("labels", Labels),
    ],
)
def test_a_teacher_is_named_and_its_fields_can_be_set_and_it_is_found_from_any_folder(nets, monkeypatch, teacher, kind):
    np.savez("rows.npz", **{split: np.full((5, 4), 0.25) for split in ("train", "guard", "certify")})
    flags = ["--data", "digits", "--teacher", teacher, "--teacher.smoothing", "0.2"]
    run, base, goal = parse(STUDY, flags)
    assert type(base.protocol.teacher) is kind
    assert base.protocol.teacher.smoothing == 0.2
    assert base.protocol.teacher.classes == (4 if kind is Given else 10)
    whole = anywhere(flags, run)
    monkeypatch.syspath_prepend(str(nets))
    monkeypatch.chdir("/")
    assert parse(STUDY, whole)[1:] == (base, goal)


@pytest.mark.parametrize(
    ("teacher", "said"),
    [("given:absent.npz", "absent.npz"), ("givn:x", "did you mean 'given'"), ("features:absent_nets:f", "absent_nets")],
)
def test_a_teacher_that_is_not_there_is_told(nets, teacher, said):
    with pytest.raises(ConfigFault, match=said):
        parse(STUDY, ["--teacher", teacher])


@pytest.mark.parametrize(
    ("data", "fault"),
    [("npz:absent.npz", DataFault), ("folder:absent", DataFault), ("no_such_module:f", ConfigFault)],
)
def test_data_of_ones_own_that_are_not_there_are_told(data, fault):
    with pytest.raises(fault, match=r"absent|no_such_module"):
        parse(STUDY, ["--data", data])


@pytest.mark.parametrize("data", ["~nobody_of_this_name/x", "x" * 300])
def test_a_path_that_cannot_be_looked_at_is_no_bug_of_ours(data):
    with pytest.raises(ConfigFault, match="data of your own: folder:PATH"):
        parse(STUDY, ["--data", data])


@pytest.mark.parametrize("words", [["--store", ""], ["--store="], ["--data", "digits", "--study", ""], [""]])
def test_nothing_where_a_value_is_wanted_is_not_the_current_folder(words, tmp_path, monkeypatch, capsys):
    """`--store "$STORE"`, where no such variable is set, made a store of the folder that somebody stood in."""
    monkeypatch.chdir(tmp_path)
    assert main(STUDY, [*words, "--plan"]) == ExitCode.WRONG_INPUT
    assert "a variable of the shell that is not set is nothing" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("content", [b"", b"\xff\xfe{", b'{"spec": 1, "data": "digits"}', 30_000 * b"["])
def test_a_file_that_holds_no_cell_is_told(content, tmp_path):
    (tmp_path / "best.json").write_bytes(content)
    with pytest.raises(ConfigFault, match=r"no cell can be read.*give views/STUDY/best\.json"):
        parse(STUDY, ["--config", str(tmp_path / "best.json")])


def test_a_preset_that_gives_no_cell_is_told():
    with pytest.raises(ConfigFault, match="a function that gives a CellSpec for digits"):
        parse(dataclasses.replace(STUDY, preset=lambda _: None), ["--data", "digits"])


def test_an_error_of_a_users_preset_names_their_line():
    def preset(name):
        raise KeyError(name)

    with pytest.raises(ConfigFault, match=r"preset raised KeyError.*test_command\.py:\d+, `raise KeyError\(name\)`"):
        parse(dataclasses.replace(STUDY, preset=preset), [])


def test_help_breaks_a_text_where_the_line_ends_and_not_where_the_source_does(capsys):
    with pytest.raises(SystemExit):
        parse(search_margin_psnr.STUDY, ["--help"])
    lines = [line.strip("│").rstrip() for line in capsys.readouterr().out.splitlines()]
    pairs = [pair for pair in itertools.pairwise(lines) if all(re.match(r" {6,}\S", line) for line in pair)]
    assert len(pairs) > 50
    for above, below in pairs:
        assert len(f"{above} {below.split()[0]}") > 77, above  # of 80 columns


def test_help_does_without_texts_where_the_source_is_not_at_hand():
    """As in a frozen program: it ended as a bug."""
    spec = dataclasses.make_dataclass("Compiled", [("training", Training, Training())])()
    helptext.tell(spec)
    assert "help" in dataclasses.fields(spec.training)[0].metadata


def test_help_keeps_every_example_on_a_line_and_names_the_exit_codes(capsys):
    with pytest.raises(SystemExit) as ended:
        parse(search_margin_psnr.STUDY, ["--help"])
    assert ended.value.code == 0
    lines = [line.strip() for line in capsys.readouterr().out.splitlines()]
    assert sum(line.startswith("$ python sweeps/search_margin_psnr.py") for line in lines) == 3
    assert any("Exit codes: 0 done" in line for line in lines)
    assert any(line.startswith("--objective.lambda-ts") for line in (line.strip("│ ") for line in lines))
    assert any(line.startswith("--search") for line in lines)
