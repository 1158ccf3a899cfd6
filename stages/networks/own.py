"""A network of the user's own code, `package.module:function`, which a task runs where it says `trust_code: true`."""

import importlib
import re
import traceback

from torch import nn

FORMS = {r"[\w.]+:\w+": "package.module:function (code of yours, with `trust_code: true`)"}


def build(match: re.Match[str], classes: int, shape: tuple[int, ...]) -> nn.Module:
    """What the function, or the class, gives without arguments; raises ValueError where there is none, or it is no module."""
    module, _, function = match[0].partition(":")
    try:
        make = getattr(importlib.import_module(module), function)
        net = make()
    except ModuleNotFoundError as error:
        raise ValueError(f"there is no module {error.name}; it is looked for from the folder of params.yaml on") from None
    except (AttributeError, TypeError) as error:
        raise ValueError(f"{error}; give a function, or a class, that takes no arguments") from None
    except Exception as error:  # whatever somebody's code raises
        at = traceback.extract_tb(error.__traceback__)[-1]
        raise ValueError(f"{type(error).__name__}: {error} ({at.filename}, line {at.lineno})") from None
    if not isinstance(net, nn.Module):
        raise ValueError(f"it gives a {type(net).__name__}, not a torch.nn.Module")
    return net
