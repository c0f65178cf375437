"""How long a user looks at nothing: from the return key to the first line, and to the first thing that moves.

Seconds of the wall are those of this machine at this moment, and are printed alone. What is asserted is processor time,
as a ratio to the imports that a command line needs whatever it does.
"""

import os
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

REPOSITORY = Path(__file__).parents[2]
COMMAND = ("sweeps/tiny_fixed_q.py", "--data", "digits", "--training.epochs", "3", "--warm-up.training.epochs", "3")
SIGNS = {"base config": "first line", "starting Ray": "checked", "importing torch": "Ray runs", "  warm_up": "progress"}
"""What a line holds -> what has been reached when it is printed; the last is the first stage of the first cell."""


def imports() -> float:
    """Processor seconds of a process that imports the command line."""
    code = "import time, certvae.engine.command; print(time.process_time())"
    told = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    return float(told.stdout)


def started(store: Path, seed: int) -> dict[str, tuple[float, float, float]]:
    """When each sign was seen: seconds of the wall, of the driver, and of all that it has started."""
    found: dict[str, tuple[float, float, float]] = {}
    began = time.monotonic()
    command = [sys.executable, *COMMAND, "--seeds", str(seed), "--store", str(store)]
    driver = subprocess.Popen(command, cwd=REPOSITORY, env={**os.environ, "PYTHONPATH": "."}, stdout=subprocess.PIPE)
    watched = psutil.Process(driver.pid)
    assert driver.stdout is not None
    for line in driver.stdout:
        for sign, name in SIGNS.items():
            if sign in line.decode() and name not in found:
                own, others = sum(watched.cpu_times()[:2]), 0.0
                for child in watched.children(recursive=True):
                    others += sum(child.cpu_times()[:2])
                found[name] = (time.monotonic() - began, own, others)
    driver.wait()
    return found


@pytest.mark.slow
def test_a_run_says_something_before_a_user_wonders(tmp_path, capsys):
    """The first start on a new store decodes digits, which imports scikit-learn; the second is what one usually sees.

    Measured on two cores at a load of 10, where a second of the processor took four: the first line after 0.77 s of the
    driver's processor (1.71 s where digits are decoded), Ray and the first lanes at 2.7 s, the first stage at 2.8 s of
    the driver's and 8.3 s of all that it starts.
    """
    floor, found = imports(), {}
    for seed, name in enumerate(("a new store", "another seed")):
        found = started(tmp_path / "store", seed)
        with capsys.disabled():
            print(f"\n{name}; imports alone take {floor:.2f} s of the processor")
            for sign, (wall, own, others) in found.items():
                print(
                    f"  {sign:10} {wall:6.2f} s; processor: {own:5.2f} s of the driver, {others:5.2f} s of the others"
                )
    assert list(found) == list(SIGNS.values())
    assert found["first line"][1] < 2 * floor
    assert found["checked"][1] < 2 * floor, "torch, or Ray, is imported before anything is said of it"
