"""Knowledge distillation from out-of-domain data, one small script per DVC stage."""

import os

# OpenMP's threads spin while they wait for one whose core does something else: less, and they give way. Before torch is loaded.
if "OMP_WAIT_POLICY" not in os.environ:
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")
