"""Graders as they are often written, for controls: each trusts the process that it judges.

    python -I naive.py KIND    with {"code": …, "test": …} on standard input

Prints the reward, if it lives to do so.
"""

import json
import os
import subprocess
import sys


class Episode:
    """What the grader writes its verdict into."""

    reward = 0.0


def in_process(code: str, test: str) -> float:
    """Execute the program, and call its function, where the test is."""
    episode = Episode()
    names: dict[str, object] = {}
    exec(test, names)
    check = names["check"]
    try:
        exec(code, names)
        check(names["clamp"])  # type: ignore[operator]
    except Exception:
        return episode.reward
    episode.reward = 1.0
    return episode.reward


def by_exit_code(code: str, test: str) -> float:
    """Run program and test as one script; 0 is success."""
    script = f"{code}\n{test}\ncheck(clamp)\n"
    ran = subprocess.run([sys.executable, "-I", "-c", script], capture_output=True, check=False)
    return 1.0 if ran.returncode == 0 else 0.0


def by_pipe(code: str, test: str) -> float:
    """Fork; the child reports on a pipe what came out of it."""
    read, write = os.pipe()
    child = os.fork()
    if not child:
        passed = in_process(code, test) == 1.0
        os.write(write, json.dumps({"passed": passed}).encode() + b"\n")
        os._exit(0)
    os.close(write)
    with os.fdopen(read) as pipe:
        said = json.loads(pipe.readline() or "{}")
    os.waitpid(child, 0)
    return 1.0 if said.get("passed") is True else 0.0


if __name__ == "__main__":
    wish = json.load(sys.stdin)
    kinds = {"in process": in_process, "by exit code": by_exit_code, "by pipe": by_pipe}
    reward = kinds[sys.argv[1]](wish["code"], wish["test"])
    print(json.dumps(reward), file=sys.stderr, flush=True)
