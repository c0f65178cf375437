"""What a monitor costs a loop at its default cadence, as a share of the processor time of the loop itself."""

import time

import pytest
import torch

from certvae import Monitor
from tests.monitor.test_foreign_loops import GUARD, TRAIN, Vae

SECONDS = 30.0  # a shorter loop is all first look
MOST = 0.03


@pytest.mark.slow
def test_a_monitor_costs_a_loop_less_than_three_per_cent():
    """Both numbers are of one loop, step by step, so that a busy machine slows both."""
    torch.manual_seed(0)
    vae, monitor = Vae(), Monitor(torch.eye(10)[torch.arange(len(GUARD)) % 10], GUARD)
    optimiser = torch.optim.Adam(vae.parameters(), lr=2e-3)
    monitor.step(vae.encode)
    training = watching = 0.0
    ends = time.perf_counter() + SECONDS
    while time.perf_counter() < ends:
        for batch in TRAIN.split(100):
            began = time.process_time()
            optimiser.zero_grad()
            vae(batch).backward()
            optimiser.step()
            trained = time.process_time()
            monitor.step(vae.encode)
            training, watching = training + trained - began, watching + time.process_time() - trained
    print(f"monitor {watching / training:.4f} of the loop, {len(monitor.observations)} looks")
    assert watching < MOST * training
