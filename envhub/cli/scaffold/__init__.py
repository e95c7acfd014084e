"""The folder that `envhub init` begins with: `Guess` and `guess` become the name given."""
