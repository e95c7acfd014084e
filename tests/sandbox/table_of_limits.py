"""The attacks on limits: see `table.py`, which they are a part of."""

from __future__ import annotations

from tests.sandbox.attack import FULL, NO, Attack

# against alone.SMALL
LIMITS = (
    Attack(
        "40 processes",
        "import signal\n"
        "children = []\n"
        "for _ in range(40):\n"
        "    children.append(os.fork())\n"
        "    if not children[-1]: signal.pause()\n"
        "for child in children: os.kill(child, 9), os.waitpid(child, 0)",
        "BlockingIOError",
    ),
    Attack(
        "40 dead processes",
        "children = []\n"
        "for _ in range(40):\n"
        "    children.append(os.fork())\n"
        "    if not children[-1]: os._exit(0)\n"
        "for child in children: os.waitpid(child, 0)",
        "BlockingIOError",
    ),
    Attack(
        "40 threads",
        "import threading\n"
        "end = threading.Event()\n"
        "threads = [threading.Thread(target=end.wait, daemon=True) for _ in range(40)]\n"
        "for thread in threads: thread.start()\n"
        "end.set()",
        "can't start new thread",
    ),
    Attack("100 descriptors", "[os.dup(0) for _ in range(100)]", "Too many open files"),
    Attack(
        "descriptors in flight",
        "import socket\n"
        "ours, theirs = socket.socketpair()\n"
        "for _ in range(10): socket.send_fds(ours, [b'x'], [0] * 20)",
        "Too many references",
    ),
    Attack(
        "100 terminals",
        "import signal\n"
        "children = []\n"
        "def open_some(): return [os.open('/dev/ptmx', os.O_RDWR) for _ in range(20)]\n"
        "for _ in range(4):\n"
        "    read, write = os.pipe()\n"
        "    children.append(os.fork())\n"
        "    if not children[-1]:\n"
        "        try: open_some()\n"
        "        finally: os.write(write, b'x')\n"
        "        signal.pause()\n"
        "    os.read(read, 1)\n"
        "open_some()\n"
        "for child in children: os.kill(child, 9), os.waitpid(child, 0)",
        FULL,
    ),
    Attack("a long file", "open(given['scratch'] + '/long', 'wb').write(bytes(2 << 20))",
           "File too large"),
    Attack(
        "a full disk",
        "for number in range(6):\n"
        "    open(f\"{given['scratch']}/{number}\", 'wb').write(bytes(1 << 20))",
        FULL,
    ),
    Attack(
        "many files",
        "for number in range(100): open(f\"{given['scratch']}/{number}\", 'w').close()",
        FULL,
    ),
    Attack(
        "many files in /tmp",
        "for number in range(100): open(f\"{given['tmp']}/{number}\", 'w').close()",
        FULL,
    ),
    Attack(
        "many files in /dev/shm",
        "for number in range(300): open(f\"{given['shm']}/{number}\", 'w').close()",
        FULL,
    ),
    Attack(
        "a full /tmp",
        "for number in range(6):\n"
        "    open(f\"{given['tmp']}/{number}\", 'wb').write(bytes(1 << 20))",
        FULL,
    ),
    Attack(
        "a full /dev/shm",
        "for number in range(6):\n"
        "    open(f\"{given['shm']}/{number}\", 'wb').write(bytes(1 << 20))",
        FULL,
    ),
    Attack("much memory", "bytearray(512 << 20)", "MemoryError"),
    Attack("much shared memory", "import mmap\nmmap.mmap(-1, 2 << 30)",
           "Cannot allocate memory"),
    Attack("locked memory", "call('mlock', ctypes.create_string_buffer(4096), 1)", NO),
    Attack("a message queue", "call('mq_open', b'/envhub-attack', os.O_CREAT, 0o600, None)\n"
           "call('mq_unlink', b'/envhub-attack')", "Too many open files"),
    Attack(
        "300 signals that wait",
        "import signal\n"
        "signal.pthread_sigmask(signal.SIG_BLOCK, [40])\n"
        "for _ in range(300): call('sigqueue', os.getpid(), 40, None)",
        "Resource temporarily unavailable",
    ),
    Attack("a deeper stack than allowed", "import resource\n"
           "resource.setrlimit(resource.RLIMIT_STACK, (9 << 20, 9 << 20))", "ValueError"),
    Attack("more processes than allowed", "import resource\n"
           "resource.setrlimit(resource.RLIMIT_NPROC, (20, 20))", "ValueError"),
    Attack("more memory than allowed", "import resource\n"
           "resource.setrlimit(resource.RLIMIT_DATA, (257 << 20, 257 << 20))", "ValueError"),
    Attack("more descriptors than allowed", "import resource\n"
           "resource.setrlimit(resource.RLIMIT_NOFILE, (65, 65))", "ValueError"),
    Attack(
        "a core dump",
        "import resource\n"
        "os.chdir(given['scratch'])\n"
        "most = resource.getrlimit(resource.RLIMIT_CORE)[1]\n"
        "child = os.fork()\n"
        "if not child:\n"
        "    resource.setrlimit(resource.RLIMIT_CORE, (most, most))\n"
        "    os.abort()\n"
        "assert os.WCOREDUMP(os.waitpid(child, 0)[1])",
        "AssertionError",
        optional="the owner's own limit may forbid it",
    ),
)  # fmt: skip
