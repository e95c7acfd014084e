"""Where agent code runs: a sandbox of its own, with the standard library and nothing hidden.

    runner zygote     bare interpreter, plus the packages that the manifest names
      └─ keeper       pid 1 of the agent's sandbox: trusted, speaks with the environment
           └─ interpreter   executes agent code; dies and is born again on the same files

Standard library only: this is also all that agent code can find of envhub.
"""
