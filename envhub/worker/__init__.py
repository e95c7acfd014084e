"""The code that runs inside an environment's sandbox: the zygote and its session processes."""
