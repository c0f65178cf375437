"""What a function of one's own returns, and how its errors are told."""

import re
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from certvae.canonical import digest
from certvae.data.loading import describe, load
from certvae.data.own import is_own, returned
from certvae.errors import ConfigFault, DataFault, ExitCode, Fault
from certvae.foreign import TheirFault
from certvae.protocols import chain
from certvae.spec.cell import CellSpec
from certvae.spec.parts import Conv, Data, Description, Mlp
from certvae.spec.presets import encoder_for, rescue, witness

MODULE = """
import numpy as np
X = np.random.default_rng(0).integers(0, 256, (40, 8, 8), dtype=np.uint8)
Y = np.arange(40) % 2

def alone(): return X
def pair(): return X, Y
def parts(): return {"train": (X[:30], Y[:30]), "test": (X[30:], Y[30:])}
def keys(): return {"x_train": X[:30], "y_train": Y[:30], "x_test": X[30:], "y_test": Y[30:]}

class Items:
    def __init__(self, rows): self.rows = rows
    def __len__(self): return len(self.rows)
    def __getitem__(self, i):
        if not 0 <= i < len(self.rows): raise IndexError(i)
        return X[self.rows[i]], int(Y[self.rows[i]])

def items(): return Items(range(40))
def split_items(): return {"train": Items(range(30)), "test": Items(range(30, 40))}

def tensors():
    import torch
    return torch.from_numpy(X / 255).float().requires_grad_(), torch.from_numpy(Y)

def datasets():
    import torch
    from torch.utils.data import TensorDataset
    return {"train": TensorDataset(torch.from_numpy(X[:30]), torch.from_numpy(Y[:30])),
            "test": TensorDataset(torch.from_numpy(X[30:]), torch.from_numpy(Y[30:]))}

def texts(): return X, np.array(["cat", "dog"], dtype=object)[Y]
def pictures():
    from PIL import Image
    return [Image.fromarray(x) for x in X], [int(y) for y in Y]
class Named(Items):
    def __getitem__(self, i): return dict(zip(("image", "label", "caption"), (*super().__getitem__(i), "words")))
def named(): return Named(range(40))
def split_named(): return {"train": Named(range(30)), "test": Named(range(30, 40))}

def rows():
    import torch
    from torch.utils.data import TensorDataset
    return TensorDataset(torch.from_numpy(X.reshape(40, 64) / 255))
def frame():
    import pandas
    return pandas.DataFrame(X.reshape(40, 64) / 255)
def sparse():
    from scipy.sparse import csr_matrix
    return csr_matrix(X.reshape(40, 64) / 255)

def tuples(): return tuple(X), tuple(Y)
def listed(): return {"x": list(X), "y": Y.tolist()}
def listed_texts(): return {"x": X, "y": [("cat", "dog")[y] for y in Y]}
def listed_parts():
    return {"x_train": list(X[:30]), "y_train": Y[:30], "x_test": list(X[30:]), "y_test": Y[30:].tolist()}
def finer(): return [{"img": x, "fine_label": 1, "coarse_label": 0} for x in X]

def two_sets(): return Items(range(30)), Items(range(30, 40))
def named_sets(): return dict(zip(("train", "test"), two_sets()))
def extra(): return {**named_sets(), "extra": Items(range(20))}
def unnamed(): return [{"picture": x, "kind": 1} for x in X]
def halves():
    import torch
    return torch.from_numpy(X / 255).bfloat16()
def torn_shapes(): return [X[0], X[0, :4]], [0, 1]
def triples(): return [(x, 0, "name") for x in X]

def wrong_shape(): return X[0, 0]
def wrong_labels(): return X, Y[:-1]
def raises(): return 1 / 0
class Torn(Items):
    def __getitem__(self, i): return {}[i]
def torn(): return Torn(range(40))
def text(): return "x"
def needing():
    import nothing_of_this_name
class Late(Items):
    def __getitem__(self, i): import nothing_of_this_name
def late(): return Late(range(40))
number = 3
"""


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch) -> Iterator[Path]:
    (tmp_path / "my_rows.py").write_text(MODULE)
    (tmp_path / "broken.py").write_text("import nothing_of_this_name\n")
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    returned.cache_clear()
    for name in ("my_rows", "broken", "lazy", "beside", "reading"):
        sys.modules.pop(name, None)


def opened(place: str, cache: Path):
    about = describe(place)
    return load(Data(name=about.name), about.place, cache=cache, progress=False)


IN_PARTS = ["parts", "keys", "split_items", "datasets", "split_named", "named_sets", "listed_parts"]


WHOLE = ["pair", "items", "tensors", "texts", "pictures", "named", "tuples", "listed", "listed_texts"]


@pytest.mark.parametrize("function", [*WHOLE, *IN_PARTS])
def test_everything_that_a_function_may_return(here, function):
    dataset = opened(f"my_rows:{function}", here / "cache")
    assert (dataset.shape, dataset.classes) == ((1, 8, 8), 2)
    assert len(dataset.rows("certify")) == (10 if function in IN_PARTS else 8)
    assert str(here) not in sys.path


def test_labels_of_other_names_are_not_dropped_in_silence(here):
    with pytest.raises(
        DataFault, match=r"hold fine_label, coarse_label, and no label .* the one that is meant as label"
    ):
        describe("my_rows:finer")


@pytest.mark.parametrize("function", ["rows", "frame", "sparse"])
def test_vectors_that_a_function_may_return(here, function):
    dataset = opened(f"my_rows:{function}", here / "cache")
    assert (dataset.shape, dataset.classes) == ((1, 1, 64), None)


def test_a_function_and_a_file_of_the_same_arrays_have_the_same_rows(here):
    np.savez(here / "a.npz", x=np.random.default_rng(0).integers(0, 256, (40, 8, 8), dtype=np.uint8))
    first, second = describe("my_rows:alone"), describe("npz:a.npz")
    assert first.name.split("@") == ["module", second.name.split("@")[1]]
    assert opened("my_rows:alone", here / "one").digest == opened("npz:a.npz", here / "two").digest


def test_a_worker_opens_the_decoded_copy_and_calls_nothing(here):
    first = opened("my_rows:pair", here / "cache")
    returned.cache_clear()
    (here / "my_rows.py").unlink()
    sys.modules.pop("my_rows")
    assert load(Data(name=first.name), cache=here / "cache", progress=False) == first


@pytest.mark.parametrize(
    ("place", "words"),
    [
        ("absent_module:f", "E-CONF: no module absent_module that is written in Python is found"),
        ("broken:f", "E-CONF: broken does not import: No module named 'nothing_of_this_name'"),
        ("my_rows:absent", "E-CONF: my_rows has no function or class absent; it has Items, Late, Named, Torn"),
        ("my_rows:number", "my_rows has no function or class number"),
        ("my_rows:raises", "E-CONF: raises raised ZeroDivisionError"),
        ("my_rows:torn", "E-CONF: __getitem__ raised KeyError"),
        ("my_rows:needing", "E-CONF: needing raised ModuleNotFoundError: No module named 'nothing_of_this_name'"),
        ("my_rows:late", "E-CONF: __getitem__ raised ModuleNotFoundError"),
        ("my_rows:text", "E-DATA: my_rows:text returns a str"),
        ("my_rows:two_sets", "my_rows:two_sets returns two data sets | my_rows:two_sets | the function was given as a"),
        ("my_rows:extra", "E-DATA: my_rows:extra returns x_train twice, the second time as 'extra'"),
        ("my_rows:unnamed", "E-DATA: items of my_rows:unnamed hold picture, kind"),
        ("my_rows:halves", "E-DATA: no array can be made of the Tensor that my_rows:halves returns: Got unsupported"),
        ("my_rows:torn_shapes", "E-DATA: no array can be made of the list that my_rows:torn_shapes returns"),
        ("my_rows:triples", "E-DATA: no array can be made of the tuple that my_rows:triples returns"),
        ("my_rows:wrong_shape", "E-DATA: the train values have shape (8,)"),
        ("my_rows:wrong_labels", "E-DATA: the train labels have shape (39,)"),
    ],
)
def test_what_is_wrong_is_named(place, words):
    with pytest.raises(Fault) as raised:
        describe(place)
    assert words in str(raised.value)
    assert raised.value.exit_code == ExitCode.WRONG_INPUT


def test_an_error_of_the_user_names_the_file_and_the_line(here):
    with pytest.raises(TheirFault) as raised:
        describe("my_rows:raises")
    line = MODULE[: MODULE.index("def raises")].count("\n") + 1
    assert raised.value.where == f"{here / 'my_rows.py'}:{line}, `def raises(): return 1 / 0`"


def test_a_function_may_import_what_lies_beside_it_when_it_is_called(here):
    (here / "beside.py").write_text("from my_rows import X\n")
    (here / "lazy.py").write_text("def rows():\n    from beside import X\n    return X\n")
    assert describe("lazy:rows").name == describe("my_rows:alone").name


def test_a_function_is_called_again_when_it_is_described_again(here):
    """In a notebook whose file has changed meanwhile."""
    (here / "reading.py").write_text("import numpy\ndef rows(): return numpy.load('a.npy')\n")
    names = []
    for scale in (1, 2):
        np.save(here / "a.npy", np.arange(240, dtype=np.uint8).reshape(60, 2, 2) // scale)
        names.append(describe("reading:rows").name)
        assert opened("reading:rows", here / "cache").name == names[-1]
    assert names[0] != names[1]


def test_a_command_without_an_option_for_the_place_finds_it_in_a_variable(here, monkeypatch):
    """As `certvae verify --load` is told where the images of a bundle lie."""
    np.savez(here / "a.npz", x=np.random.default_rng(0).integers(0, 256, (40, 8, 8), dtype=np.uint8))
    data = Data(name=describe("npz:a.npz").name)
    with pytest.raises(DataFault, match="CERTVAE_DATA=npz:PATH") as raised:
        load(data, cache=here / "cache", progress=False)
    name, _, place = re.findall(r"\w+=\S+", raised.value.remedy)[0].partition("=")
    monkeypatch.setenv(name, place.replace("PATH", "a.npz"))
    assert load(data, cache=here / "cache", progress=False).name == data.name


def test_a_kind_alone_names_no_place():
    assert not is_own("folder:")
    assert not is_own("npz:")


@pytest.mark.parametrize(
    ("name", "own"),
    [("folder:a b", True), ("npz:/x", True), ("a.b:c", True), ("mnist", False), ("https://x", False), ("a:b:c", False)],
)
def test_three_forms(name, own):
    assert is_own(name) == own


def test_a_misspelt_name_is_told():
    with pytest.raises(DataFault, match=r"no data set is called 'mnits'.*did you mean 'mnist'"):
        describe("mnits")


class TestPresets:
    @pytest.mark.parametrize(
        ("shape", "wanted"),
        [
            ((1, 1, 30), Mlp(hidden=(512, 256), latent=16)),
            ((1, 28, 28), Mlp(hidden=(512, 256), latent=16)),
            ((3, 32, 32), Conv(channels=(64, 128, 256), latent=64)),
            ((3, 64, 64), Conv(channels=(64, 128, 256, 256), latent=128)),
            ((3, 48, 64), Conv(channels=(64, 128, 256), latent=64)),
            ((3, 75, 75), Mlp(hidden=(512, 256), latent=16)),
        ],
    )
    def test_the_encoder_follows_the_shape(self, shape, wanted):
        assert encoder_for(shape) == wanted

    @pytest.mark.parametrize("preset", [rescue, witness])
    @pytest.mark.parametrize("classes", [None, 2, 30])
    def test_a_description_has_a_cell_whose_networks_fit(self, preset, classes):
        about = Description(name="npz@0123456789abcdef", shape=(3, 32, 32), classes=classes, n=100)
        cell = preset(about)
        assert cell.data.name == about.name
        assert cell.protocol.teacher.classes == (classes or 10)
        assert cell.model.encoder.latent >= cell.protocol.teacher.classes - 1 or preset is rescue
        assert chain.steps(cell)[-1] == "judge"

    def test_a_name_alone_says_too_little(self):
        with pytest.raises(ConfigFault, match=r"give certvae\.data\.describe\('folder:x'\)"):
            rescue("folder:x")

    def test_the_description_of_a_known_data_set_gives_its_preset(self):
        assert rescue(describe("cifar10")) == rescue("cifar10")

    def test_the_key_of_a_cell_does_not_depend_on_the_place(self, here):
        for folder in ("one", "two"):
            (here / folder).mkdir()
            np.savez(here / folder / f"{folder}.npz", x=np.arange(640, dtype=np.uint8).reshape(10, 8, 8))
        cells = {digest(rescue(describe(f"npz:{here / folder / folder}.npz"))) for folder in ("one", "two")}
        assert len(cells) == 1


@pytest.mark.parametrize("name", ["folder:x", "npz:/x.npz", "m:f", "", "folder@12", "MNIST"])
def test_a_spec_holds_no_place(name):
    with pytest.raises(ConfigFault, match="name must be"):
        CellSpec(data=Data(name=name))
