"""Records one step of training as a CUDA graph, and replays it from then on.

A small network on a GPU waits for its host, which launches more than a hundred kernels a step; a graph is one launch.
It reads its rows and the time from buffers that stay where they are, and draws noise from a generator that it advances.
What a step is stands in `loop.Step`. Where it cannot be recorded, since it asks the host for a number, that is said
once and the run goes on as it was.
"""

import functools
import gc
import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol

import torch
from torch import Tensor

logger = logging.getLogger(__name__)

BEFORE = 3
"""Steps that run before one is recorded: libraries come up, and Adam makes its moments."""
Time = float | Tensor
"""Epochs done, as a fraction; a scalar of the device, float64, where it is read from a buffer."""


class Recordable(Protocol):
    """(number of the step in its epoch, rows, time) -> the terms, float32; noise is drawn from `noise`."""

    noise: torch.Generator

    def __call__(self, number: int, rows: Tensor, epochs_done: Time) -> Tensor:
        """Makes the step."""
        ...


class Recorder(Protocol):
    """Runs steps and records one."""

    def run(self, once: Callable[[], None]) -> None:
        """Runs a step once, as it is.

        Raises:
            RuntimeError: it asks the host for a number, so it cannot be recorded.
        """
        ...

    def record(self, once: Callable[[], None]) -> Callable[[], None]:
        """Records a step without running it; returns what replays it.

        Raises:
            RuntimeError: it cannot be recorded.
        """
        ...


class CudaGraph:
    """Runs a step on a stream of its own, and records it there.

    Args:
        noise: the generator that it draws from; a replay goes on where the generator stands.
    """

    def __init__(self, noise: torch.Generator):
        self._noise, self._stream = noise, torch.cuda.Stream(noise.device)

    def run(self, once: Callable[[], None]) -> None:
        """Runs a step once, in order with what else this process does on the device; a wait of the host is an error."""
        before = torch.cuda.get_sync_debug_mode()
        self._stream.wait_stream(torch.cuda.current_stream())
        try:
            torch.cuda.set_sync_debug_mode("error")
            with torch.cuda.stream(self._stream), warnings.catch_warnings():
                warnings.filterwarnings("ignore", message="This instance was constructed with capturable=True")
                once()
        finally:
            torch.cuda.set_sync_debug_mode(before)
            torch.cuda.current_stream().wait_stream(self._stream)

    def record(self, once: Callable[[], None]) -> Callable[[], None]:
        """Records a step and launches nothing; every launch of the step is kept, with the memory that it uses."""
        graph = torch.cuda.CUDAGraph()
        graph.register_generator_state(self._noise)
        with torch.cuda.graph(graph, stream=self._stream, capture_error_mode="thread_local"):
            once()
        return graph.replay


class Recorded:
    """A step that begins as it is, is recorded at its fourth call, and replayed from then on.

    Args:
        rows: how many rows a batch has.
        terms: how many numbers a step tells.
    """

    def __init__(self, step: Recordable, rows: int, terms: int, recorder: Recorder | None = None):
        device = step.noise.device
        self._step, self._recorder = step, recorder or CudaGraph(step.noise)
        self._rows = torch.zeros(rows, dtype=torch.long, device=device)
        self._time = torch.zeros((), dtype=torch.float64, device=device)
        self._values = torch.zeros(terms, device=device)
        self._calls, self._replay, self._gave_up = 0, None, False

    @property
    def step(self) -> Recordable:
        """The step that is recorded."""
        return self._step

    @property
    def noise(self) -> torch.Generator:
        """The generator that the step draws noise from."""
        return self._step.noise

    def __call__(self, number: int, rows: Tensor, epochs_done: float) -> Tensor:
        """As the step; what it returns is overwritten by the next call."""
        if self._gave_up:
            return self._step(number, rows, epochs_done)
        self._rows.copy_(rows)
        self._time.fill_(epochs_done)
        if self._replay is not None:
            self._replay()
            return self._values
        drawn = self._step.noise.get_state()
        try:
            self._begin()
        except RuntimeError as error:  # it holds what was recorded of the step, and its memory, until it is let go
            self._give_up(error, drawn)
        return self._step(number, rows, epochs_done) if self._gave_up else self._values

    def _begin(self) -> None:
        """One of the first steps, or the first replay."""
        if self._calls < BEFORE:
            self._recorder.run(self._once)
        else:
            with _uncollected():
                replay = self._recorder.record(self._once)
            replay()
            self._replay = replay
        self._calls += 1

    def _once(self) -> None:
        self._values.copy_(self._step(0, self._rows, self._time))

    def _give_up(self, error: RuntimeError, drawn: Tensor) -> None:
        """Says why, and goes back to where the step began: no weight has moved yet."""
        _say(str(error).strip().splitlines()[0])
        self._gave_up = True
        self._step.noise = torch.Generator(self._step.noise.device)  # the other one may still belong to a graph
        self._step.noise.set_state(drawn)


@contextmanager
def _uncollected() -> Iterator[None]:
    """No garbage is collected within the block: a graph of an earlier stage among it would end a recording."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


@functools.cache
def _say(why: str) -> None:
    """Once in a process."""
    logger.warning("a step cannot be recorded as a CUDA graph, so steps run one by one: %s", why)
