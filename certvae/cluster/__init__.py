"""Ray and the machines: slots, joining, nodes, watching, launching, the doctor.

Ray reads its settings once, when it is imported. They stand here, so that they come before whatever in this package, or
in `certvae.engine`, imports Ray.
"""

import os

os.environ |= {
    "RAY_AUTH_MODE": "token",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "1",
    "RAY_AIR_NEW_OUTPUT": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",
}
