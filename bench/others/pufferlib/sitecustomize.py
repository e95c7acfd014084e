"""While PufferLib 3.0.0 is built: NO_OCEAN=1 skips what sets this name, not what reads it."""

import builtins

builtins.c_extension_paths = []
