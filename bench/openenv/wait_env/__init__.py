"""An environment written for OpenEnv whose steps take their time: what `bench.storm` opens."""
