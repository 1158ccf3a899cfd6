"""Every way in which a learning rate may fall (`rate` of schedules and recipes); a new one joins `Falling` and `factor`."""

import math
from typing import Annotated, Literal

from pydantic import Field

from stages.support.sections import Section, Share


class Drops(Section):
    """The rate is multiplied `by` a factor at each of the parts of the run (0 to 1) that `at` names."""

    at: Annotated[list[Share], Field(min_length=1)]
    by: Share


class Warmed(Section):
    """The rate rises linearly from 0 over the first part `warmup` of the run, then falls linearly to 0: as encoders are tuned."""

    warmup: Share


Falling = Literal["cosine", "constant"] | Drops | Warmed


def factor(falling: Falling, progress: float) -> float:
    """What the base rate is multiplied by in a run that is `progress` (0 to 1) done: a cosine from 1 to 0, drops, lines, or 1."""
    if isinstance(falling, Warmed):
        return min(progress / falling.warmup, (1 - progress) / (1 - falling.warmup))
    if isinstance(falling, Drops):
        return math.prod(falling.by for place in falling.at if progress >= place)
    return 0.5 * (1 + math.cos(math.pi * progress)) if falling == "cosine" else 1.0
