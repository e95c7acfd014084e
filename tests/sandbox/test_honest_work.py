"""What ordinary programs do still works: a sandbox that nobody can use protects nothing."""

from __future__ import annotations

import importlib.util
import shutil
from collections.abc import Iterator

import pytest

from envhub_sandbox import Launcher, Limits
from tests.sandbox.alone import MIB, Zygote

PROGRAMS = {
    "threads": """
import threading, queue
done = queue.Queue()
threads = [threading.Thread(target=done.put, args=(n,)) for n in range(8)]
for thread in threads: thread.start()
for thread in threads: thread.join()
assert sorted(done.get() for _ in threads) == list(range(8))
""",
    "a shell": """
import subprocess
text = "cat <(echo one) <(echo two); (echo three | tr a-z A-Z)"
ran = subprocess.run(["bash", "-c", text], capture_output=True, text=True, check=True)
assert ran.stdout.split() == ["one", "two", "THREE"], ran
""",
    "a program's exit code and signal": """
import subprocess
assert subprocess.run(["sh", "-c", "exit 3"]).returncode == 3
assert subprocess.run(["sh", "-c", "kill -TERM $$"]).returncode == -15
""",
    "files": """
import os, pathlib, shutil, tempfile
assert os.getcwd() == "/workspace"
pathlib.Path("deep/er").mkdir(parents=True)
pathlib.Path("deep/er/file").write_text("x" * 1000)
os.symlink("deep", "link"); os.link("deep/er/file", "hard")
os.chmod("hard", 0o600); os.rename("hard", "deep/moved")
assert pathlib.Path("link/moved").stat().st_size == 1000
shutil.rmtree("deep")
with tempfile.TemporaryDirectory() as folder: pathlib.Path(folder, "f").touch()
""",
    "a pool of processes": """
import multiprocessing
with multiprocessing.get_context("fork").Pool(3) as pool:
    assert pool.map(abs, [-1, -2, -3]) == [1, 2, 3]
""",
    "shared memory": """
from multiprocessing import shared_memory
memory = shared_memory.SharedMemory(create=True, size=1000)
memory.buf[:4] = b"word"
again = shared_memory.SharedMemory(memory.name)
assert bytes(again.buf[:4]) == b"word"
again.close(); memory.close(); memory.unlink()
""",
    "a database": """
import sqlite3
with sqlite3.connect("/workspace/base.db") as base:
    base.execute("pragma journal_mode = wal")
    base.execute("create table t (x)")
    base.executemany("insert into t values (?)", [(n,) for n in range(100)])
    assert base.execute("select sum(x) from t").fetchone() == (4950,)
""",
    "an event loop and its programs": """
import asyncio
async def main():
    made = await asyncio.create_subprocess_exec("cat", stdin=-1, stdout=-1)
    out, _ = await made.communicate(b"through")
    assert out == b"through" and made.returncode == 0
    assert await asyncio.to_thread(sum, [1, 2]) == 3
asyncio.run(main())
""",
    "sockets between processes": """
import os, socket
server = socket.socket(socket.AF_UNIX); server.bind("/tmp/s"); server.listen()
if not os.fork():
    client = socket.socket(socket.AF_UNIX); client.connect("/tmp/s"); client.sendall(b"hello")
    os._exit(0)
assert server.accept()[0].recv(10) == b"hello"
os.wait()
""",
    "a terminal": """
import os, pty
child, terminal = pty.fork()
if not child:
    os.execv("/bin/sh", ["sh", "-c", "test -t 0 && stty size && echo tty"])
seen = b""
try:
    while data := os.read(terminal, 1000): seen += data
except OSError: pass
assert b"tty" in seen, seen
assert os.waitpid(child, 0)[1] == 0
""",
    "cryptography": """
import hashlib, secrets, ssl
ssl.create_default_context()
assert len(hashlib.scrypt(b"p", salt=b"s", n=2, r=1, p=1)) == 64 and secrets.token_bytes(8)
""",
    "time, places and people": """
import getpass, os, pwd, tempfile, time, zoneinfo
assert pwd.getpwuid(os.getuid()).pw_dir and getpass.getuser()
time.sleep(0); time.monotonic(); time.get_clock_info("time")
assert tempfile.gettempdir() == "/tmp" and os.path.expanduser("~") == "/workspace"
""",
    "signals and timers": """
import signal
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGALRM})
signal.setitimer(signal.ITIMER_REAL, 0.01)
assert signal.sigwait({signal.SIGALRM}) == signal.SIGALRM
""",
    "limits of its own": """
import resource
resource.setrlimit(resource.RLIMIT_NOFILE, (32, 32))
resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
""",
    "asking for a page of memory": """
import mmap
page = mmap.mmap(-1, 4096); page[:4] = b"word"; page.close()
with open("/workspace/m", "w+b") as file:
    file.truncate(4096)
    page = mmap.mmap(file.fileno(), 4096); page[:4] = b"word"; page.flush()
""",
    "/dev": """
assert open("/dev/urandom", "rb").read(8) and open("/dev/zero", "rb").read(1) == b"\\0"
open("/dev/null", "w").write("x"); assert open("/dev/fd/0").read() == ""
open("/dev/stdout", "w").write("printed\\n")
""",
}
WITH_PROGRAMS = {
    "gcc": """
import subprocess
open("a.c", "w").write('#include <stdio.h>\\nint main() { puts("compiled"); }')
subprocess.run(["gcc", "-o", "a", "a.c"], check=True)
assert subprocess.check_output(["./a"]) == b"compiled\\n"
""",
    "git": """
import subprocess
run = lambda *words: subprocess.run(["git", *words], check=True, capture_output=True)
run("init", "."); open("file", "w").write("x"); run("add", ".")
run("-c", "user.name=n", "-c", "user.email=e@x", "commit", "-m", "m")
assert run("log", "--oneline").stdout
""",
    "perl": """
import subprocess
assert subprocess.check_output(["perl", "-e", "print 6 * 7"]) == b"42"
""",
}
NUMPY = """
import numpy
matrix = numpy.random.default_rng(7).random((200, 200))
assert numpy.allclose(matrix @ numpy.linalg.inv(matrix), numpy.eye(200), atol=1e-6)
assert numpy.fft.ifft(numpy.fft.fft(matrix)).real.shape == (200, 200)
"""


@pytest.fixture(scope="module")
def roomy(launcher: Launcher) -> Iterator[Zygote]:
    """A zygote with the limits that a session has by default."""
    with Zygote(launcher, limits=Limits()) as zygote:
        yield zygote


@pytest.mark.parametrize("name", PROGRAMS)
def test_honest_work_still_runs(roomy: Zygote, name: str) -> None:
    ended = roomy.run(PROGRAMS[name])

    assert ended.worked, ended


@pytest.mark.parametrize("name", WITH_PROGRAMS)
def test_programs_that_are_installed_still_run(roomy: Zygote, name: str) -> None:
    if shutil.which(name) is None:
        pytest.skip(f"{name} is not installed here")
    ended = roomy.run(WITH_PROGRAMS[name])

    assert ended.worked, ended


@pytest.mark.skipif(importlib.util.find_spec("numpy") is None, reason="numpy is not installed")
def test_numpy_computes_in_a_fork_of_a_zygote_that_imported_it(launcher: Launcher) -> None:
    """The clone skips pthread_atfork handlers, OpenBLAS's among them."""
    pinned = "import os; os.environ['OPENBLAS_NUM_THREADS'] = '1'"
    limits = Limits(memory_bytes=2048 * MIB)
    with Zygote(
        launcher, limits=limits, packages=True, first=pinned, prepare="import numpy"
    ) as zygote:
        ended = zygote.run(NUMPY)

    assert ended.worked, ended
