"""Other libraries' interfaces, in the user's process. A file for each, imported when needed."""

from __future__ import annotations

try:
    import gymnasium as gymnasium
    import numpy as numpy
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
        f"there is no module `{error.name}` here, which many environments at once need:"
        " `pip install 'envhub-rl[gymnasium]'`",
        name=error.name,
    ) from None
