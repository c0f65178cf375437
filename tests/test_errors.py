"""Faults: their parts in a fixed order, a way across processes, and no secrets."""

import copy
import pickle

import pytest

from certvae.errors import (
    BundleFault,
    ConfigFault,
    DataFault,
    DeterminismFault,
    DiskFault,
    ExitCode,
    Fault,
    NumberFault,
    RayFault,
    SearchFault,
    StoreFault,
    TeacherFault,
    is_short_of_memory,
    redact,
)

AREAS = {
    ConfigFault: ("CONF", 2),
    DataFault: ("DATA", 2),
    DiskFault: ("DISK", 4),
    StoreFault: ("STORE", 5),
    BundleFault: ("BUNDLE", 1),
    DeterminismFault: ("DET", 1),
    NumberFault: ("NUM", 1),
    TeacherFault: ("TEACH", 2),
    SearchFault: ("SEARCH", 2),
    RayFault: ("RAY", 4),
}
KINDS = pytest.mark.parametrize("kind", AREAS)


def example(kind: type[Fault]) -> Fault:
    return kind("found 3", "give more", where="stage teacher", cause="too few rows")


def test_the_table_above_is_complete():
    ours = {fault for fault in Fault.__subclasses__() if fault.__module__ == Fault.__module__}
    assert set(AREAS) == ours


@KINDS
def test_says_what_where_cause_and_remedy(kind):
    area, exit_code = AREAS[kind]
    assert str(example(kind)) == f"E-{area}: found 3 | stage teacher | too few rows | give more"
    assert example(kind).exit_code == exit_code


def test_what_is_not_known_is_left_out():
    assert str(ConfigFault("found 3", "give more")) == "E-CONF: found 3 | give more"
    assert str(ConfigFault("found 3", "give more", where="rows")) == "E-CONF: found 3 | rows | give more"


@KINDS
def test_what_to_do_cannot_be_left_out(kind):
    with pytest.raises(TypeError, match="remedy"):
        kind("what", where="a", cause="b")


@KINDS
@pytest.mark.parametrize("carry", [lambda fault: pickle.loads(pickle.dumps(fault)), copy.deepcopy])  # noqa: S301
def test_arrives_in_another_process_as_it_was(kind, carry):
    """Workers of the pool raise, the driver prints and takes its exit code from the class."""
    sent = example(kind)
    arrived = carry(sent)
    assert type(arrived) is kind
    assert str(arrived) == str(sent)
    assert (arrived.what, arrived.where, arrived.cause, arrived.remedy) == (
        sent.what,
        sent.where,
        sent.cause,
        sent.remedy,
    )


def test_exit_codes_are_what_scripts_of_users_rest_on():
    assert {code.name: int(code) for code in ExitCode} == {
        "DONE": 0,
        "BUG": 1,
        "WRONG_INPUT": 2,
        "INCOMPLETE": 3,
        "RESUMABLE": 4,
        "REFUSED": 5,
    }


def test_the_legend_names_every_exit_code():
    assert all(f"{int(code)} {code.meaning}" in ExitCode.legend() for code in ExitCode)


@pytest.mark.parametrize("name", ["RAY_AUTH_TOKEN", "AWS_SECRET_ACCESS_KEY", "DB_PASSWORD"])
def test_secrets_of_the_environment_are_named_and_not_shown(monkeypatch, name):
    monkeypatch.setenv(name, "hunter2-hunter2")
    fault = ConfigFault("cannot open db://me:hunter2-hunter2@host", "c", where="a", cause="b")
    assert "hunter2" not in str(fault)
    assert f"<{name}>" in str(fault)


def test_ordinary_variables_are_left_in_messages(monkeypatch):
    monkeypatch.setenv("CERTVAE_DATA", "/a/place/for/data")
    monkeypatch.setenv("API_TOKEN", "short")
    assert redact("short: /a/place/for/data") == "short: /a/place/for/data"


@pytest.mark.parametrize(
    ("error", "short"),
    [
        (MemoryError(), True),
        (type("OutOfMemoryError", (RuntimeError,), {})("Tried to allocate 2.00 GiB"), True),
        (type("AcceleratorError", (RuntimeError,), {})("CUDA error: out of memory\nmore lines"), True),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"), True),
        (RuntimeError("CUDA error: CUBLAS_STATUS_NOT_INITIALIZED when calling `cublasCreate(handle)`"), True),
        (RuntimeError("CUDA error: an illegal memory access was encountered"), False),
        (ValueError("CUDA error: out of memory"), False),
    ],
)
def test_what_may_fit_alone_is_told_from_what_fails_alike(error, short):
    """A process more on a shared card is refused its context or its handles, and not by torch's allocator."""
    assert is_short_of_memory(error) is short
