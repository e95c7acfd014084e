"""What an environment's author writes with. Runs inside the sandbox, and in authors' tests."""
