"""The conformance checks of `envhub check`: what an environment claims, tried in sandboxes."""
