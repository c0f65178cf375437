"""What a GPU makes of training steps, of several perceptrons at once, and of one chain of three shapes: `make gpu`.

python -m tests.benchmarks.gpu --out gpu                        95 s on an H200, then chains of at most 330 s together
python -m tests.benchmarks.gpu --device cpu --smoke --out DIR   every line of it on small sizes; the figures say nothing

Writes gpu.json, and gpu.md with the tables. Exit codes: 0 done, 1 a chain failed, 2 no GPU here.
"""

import json
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import tyro

from certvae import fingerprint
from certvae.errors import ConfigFault
from certvae.terminal import guarded
from certvae.training import environment
from tests.benchmarks import gpu_chains, gpu_members, gpu_steps
from tests.benchmarks.gpu_steps import FULL, NEIGHBOURS, SHAPES, SMOKE, Bench, Net, Way

GOALS = (("CIFAR", "graph, fp32", "fp32", 1.5), ("Tiny", "graph, bf16", "graph, fp32", 3.0))
"""What one way must gain over another to become the default."""
GUARD_SHARE = 0.02
"""Of an epoch, at most, for a point of the guard curve."""
Report = dict[str, Any]


def tables(report: Report) -> str:
    """The same for a README."""
    parts = (_ways, _networks, _verdicts, _chains, _stages)
    return "\n\n".join([f"{report['device']}; {report['when']}", *("\n".join(part(report)) for part in parts)]) + "\n"


def _ways(report: Report) -> Iterator[str]:
    yield "| network | way | ms a step | host ms | ratio | of the floor |"
    yield "|---|---|---|---|---|---|"
    for name, net in report["networks"].items():
        for way, one in net["ways"].items():
            figures = f"{one['ms']:.2f} | {one['host ms']:.2f} | {one['ratio']:.2f} | {one['share of the floor']:.0%}"
            yield f"| {name} | {way} | {figures} |"


def _networks(report: Report) -> Iterator[str]:
    counts = ", ".join(map(str, NEIGHBOURS))
    yield (
        "| network | GFLOP a step | upload of train rows, first / again | a graph gives the bytes of steps | a guard "
        f"point | steps/s of {counts} processes |"
    )
    yield "|---|---|---|---|---|---|"
    for name, net in report["networks"].items():
        up = f"{net['upload']['first ms']:.1f} / {net['upload']['again ms']:.1f} ms"
        point = f"{net['guard point']['ms']:.0f} ms, {net['guard point']['share of an epoch']:.1%} of an epoch"
        rates = ", ".join(f"{rate:.0f}" for rate in report["shared"][name].values())
        yield f"| {name} | {net['floor']['gflop']:.1f} | {up} | {net['same bytes']} | {point} | {rates} |"


def _verdicts(report: Report) -> Iterator[str]:
    for name, way, over, wanted in GOALS:
        ways = report["networks"][name]["ways"]
        if way not in ways:
            yield f"- {way} on {name}: this device has it not"
        else:
            ratio = ways[over]["ms"] / ways[way]["ms"]
            yield f"- {way} on {name}: {ratio:.2f} times as fast as {over}, wanted {wanted:g}"
    rates = report["members"]
    told = ", ".join(f"{way} {rate:.0f}" for way, rate in rates.items())
    ratio = rates[gpu_members.FUSED] / rates[gpu_members.ALONE]
    yield (
        f"- {report['sizes']['members']} networks of MNIST, steps/s of all: {told}; fused {ratio:.2f} times as many "
        f"as in turn, wanted {gpu_members.WANTED:g}"
    )
    most = max(net["guard point"]["share of an epoch"] for net in report["networks"].values())
    yield f"- a guard point takes {most:.1%} of an epoch at most, wanted {GUARD_SHARE:.0%}"


def _chains(report: Report) -> Iterator[str]:
    yield "| network | one short chain: s, exit code | at full length: s, by arithmetic | chains an hour |"
    yield "|---|---|---|---|"
    for name, one in report["chains"].items():
        whole = one["seconds at full length"]
        told = "not known | not known" if whole is None else f"{whole:.0f} | {3600 / whole:.2f}"
        yield f"| {name} | {one['seconds']:.0f}, {one['exit code']} | {told} |"


def _stages(report: Report) -> Iterator[str]:
    yield "| short chain | seconds of its stages, of all calls |"
    yield "|---|---|"
    for name, one in report["chains"].items():
        took: Counter[str] = Counter()
        for stage, seconds in one["stages"]:
            took[stage] += seconds
        yield f"| {name} | {', '.join(f'{stage} {seconds:.1f}' for stage, seconds in took.items())} |"


def network(bench: Bench, net: Net, peaks: dict[str, float]) -> Report:
    """All that is measured of one network by itself."""
    found: Report = {"upload": gpu_steps.upload(bench, net), "floor": net.floor(peaks)}
    found |= {"ways": gpu_steps.steps(bench, net, found["floor"]), "same bytes": gpu_steps.same(net, Way())}
    recorded = found["ways"][str(Way(graph=True))]["ms"]
    return found | {"guard point": gpu_steps.guard_point(bench, net, recorded)}


def measured(
    out: Path, device: str = "", smoke: bool = False, data_root: Path | None = None, chain_seconds: float = 330.0
) -> int:
    """Measures, writes gpu.json and gpu.md, and says where they are.

    Args:
        out: Folder of the report.
        device: cuda:0, or cpu with --smoke; the first GPU when absent.
        smoke: Small sizes, to see that the script runs.
        data_root: Folder with the real Tiny-ImageNet archive; synthetic images of its size when absent.
        chain_seconds: The chains are ended after so many together; 0 for none.
    """
    device = device or fingerprint.device()
    if device == "cpu" and not smoke:
        raise ConfigFault(
            "no GPU is here to be measured",
            "run it where `nvidia-smi` lists one, or see that it runs with --device cpu --smoke",
            where="--device",
        )
    environment.settle()
    out.mkdir(parents=True, exist_ok=True)
    sizes = SMOKE if smoke else FULL
    with tempfile.TemporaryDirectory(prefix="certvae-gpu-") as folder:
        bench = Bench(device, sizes, Path(folder))
        report = {"when": time.strftime("%Y-%m-%d"), "sizes": vars(sizes), **environment.fingerprint(device)}
        report |= {"machine": fingerprint.table(), "peaks": gpu_steps.peaks(bench)}
        nets = {name: Net(bench, name) for name in SHAPES}
        report["networks"] = {name: network(bench, net, report["peaks"]) for name, net in nets.items()}
        report["shared"] = gpu_steps.shared(bench)
        report["members"] = gpu_members.members(bench, nets["MNIST"])
        bench.release()
        given = (nets, report["networks"], data_root, chain_seconds)
        report["chains"] = gpu_chains.chains(bench, *given) if chain_seconds > 0 else {}
    (out / "gpu.json").write_text(json.dumps(report, indent=1))
    (out / "gpu.md").write_text(tables(report))
    print(tables(report))
    return int(any(one["exit code"] not in (0, None) for one in report["chains"].values()))


if __name__ == "__main__":
    sys.exit(guarded(lambda: tyro.cli(measured, prog="python -m tests.benchmarks.gpu")))
