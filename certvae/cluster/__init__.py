"""Ray and the machines: slots, joining, nodes, watching, launching, the doctor.

Ray reads its settings once, when it is imported. They stand here, so that they come before whatever in this package, or
in `certvae.engine`, imports Ray.
"""

import os
import sys

SETTLED = "ray" not in sys.modules or os.environ.get("RAY_AUTH_MODE") == "token"
"""False where Ray came first, and has read that it needs no token."""

os.environ |= {
    "RAY_AUTH_MODE": "token",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "1",
    "RAY_AIR_NEW_OUTPUT": "0",
    # Workers that wait for a first task have not the variables that Ray Tune asks for, and would be ended unused.
    "RAY_prestart_worker_first_driver": "0",
    # Ray Tune gives up the whole run when Ray ends a worker to save memory; it starts one again that the system ended.
    "RAY_memory_monitor_refresh_ms": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",
    # Nothing is restored from it: 26 kB for each lane that there ever was, and all of them anew each time.
    "TUNE_GLOBAL_CHECKPOINT_S": "inf",
}
