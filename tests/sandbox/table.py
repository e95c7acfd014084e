"""The attacks, as a table: what is tried, and what it must meet.

Every attack is Python that reaches its end when it has worked, and raises when it has not. It
runs twice: *free*, where it must work, and in a session, where it must not. Without the first
a typo would pass for security.

Free means one of three things:

* "plain": an ordinary process of whoever runs the tests;
* "owner": one that has just made its own namespaces, and is root in them;
* the names of layers: a session without exactly these.
"""

from __future__ import annotations

from dataclasses import dataclass

# what every attack finds defined, wherever it runs
PRELUDE = """
import ctypes, errno, os
libc = ctypes.CDLL(None, use_errno=True)

def call(function, *arguments):
    if isinstance(function, int):
        result = libc.syscall(function, *arguments)
    else:
        result = getattr(libc, function)(*arguments)
    if result == -1:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result

def reached(number, *arguments):
    "Whether the kernel did the call, or looked at its arguments at least."
    try:
        call(number, *arguments)
    except OSError as error:
        if error.errno in (errno.EPERM, errno.ENOSYS):
            raise
"""


@dataclass(frozen=True)
class Attack:
    """One row.

    Args:
        name: what is tried.
        code: reaches its end when it worked.
        meets: what the failure in a session says.
        free: where it works; see above.
        deeper: layers to leave out, and what then still stops it.
        optional: why it may fail even when free; such a row is then skipped.
    """

    name: str
    code: str
    meets: str
    free: str | tuple[str, ...] = "plain"
    deeper: tuple[tuple[tuple[str, ...], str], ...] = ()
    optional: str = ""


NO = "PermissionError"
ABSENT = "FileNotFoundError"
UNKNOWN = "Function not implemented"
NO_FAMILY = "Address family not supported"
FULL = "No space left on device"
READ_ONLY = "Read-only file system"

FILES = (
    Attack("a file of the host", "open(given['secret']).read()", ABSENT),
    Attack("the password file", "os.stat('/etc/shadow')", ABSENT),
    Attack("/sys", "os.listdir('/sys')", ABSENT),
    Attack(
        "devices beyond the harmless ones",
        "known = 'null zero full urandom random shm pts fd stdin stdout stderr ptmx'.split()\n"
        "assert set(os.listdir('/dev')) - set(known)",
        "AssertionError",
    ),
    Attack("the owner's variables", "assert given['token'] in os.environ.values()",
           "AssertionError"),
    Attack(
        "anybody's variables",
        "def variables(process):\n"
        "    try: return open(f'/proc/{process}/environ', 'rb').read()\n"
        "    except OSError: return b''\n"
        "others = [p for p in os.listdir('/proc') if p.isdigit() and p != str(os.getpid())]\n"
        "assert any(given['token'].encode() in variables(p) for p in others)",
        "AssertionError",
    ),
    Attack(
        "writing to what is shown",
        "open(given['shown'] + '/left', 'w')",
        READ_ONLY,
        deeper=((("landlock",), READ_ONLY),),
    ),
    Attack(
        "making what is shown writable",
        "call('mount', None, given['shown'].encode(), None, 0x1020, None)\n"
        "open(given['shown'] + '/left', 'w')",
        NO,
        free="owner",
        deeper=(
            (("seccomp", "landlock"), NO),
            # even root of the session's namespaces cannot: the mounts came locked
            (("seccomp", "landlock", "no capabilities", "unprivileged user"), NO),
        ),
    ),
    Attack(
        "writing to the root, for the next session",
        "open('/left', 'w')",
        READ_ONLY,
        free=("read-only root", "landlock"),
        deeper=((("read-only root",), NO), (("landlock",), READ_ONLY)),
    ),
    Attack("a setuid program", "path = given['scratch'] + '/program'\nopen(path, 'w')\n"
           "os.chmod(path, 0o4755)", NO),
    Attack("a device of its own", "import stat\n"
           "os.mknod(given['scratch'] + '/device', stat.S_IFCHR | 0o666, 0)", NO),
)  # fmt: skip

NETWORK = (
    Attack(
        "the owner's TCP port",
        "import socket\nsocket.create_connection(('127.0.0.1', given['tcp']), 5)",
        NO_FAMILY,
        deeper=((("seccomp",), NO), (("seccomp", "landlock"), "Network is unreachable")),
    ),
    Attack(
        "the owner's TCP port over IPv6",
        "import socket\nsocket.create_connection(('::1', given['tcp6']), 5)",
        NO_FAMILY,
        deeper=((("seccomp", "landlock"), "Cannot assign requested address"),),
        optional="IPv6 may be off",
    ),
    Attack(
        "a datagram",
        "import socket\nsocket.socket(socket.AF_INET, socket.SOCK_DGRAM)"
        ".sendto(b'x', ('127.0.0.1', given['tcp']))",
        NO_FAMILY,
        deeper=((("seccomp",), "Network is unreachable"),),
    ),
    Attack(
        "raw packets",
        "import socket\nsocket.socket(socket.AF_INET, socket.SOCK_RAW, 1)",
        NO_FAMILY,
        free="owner",
        deeper=((("seccomp",), NO),),
    ),
    Attack(
        "whole frames",
        "import socket\nsocket.socket(socket.AF_PACKET, socket.SOCK_RAW)",
        NO_FAMILY,
        free="owner",
        optional="the kernel may lack AF_PACKET",
    ),
    Attack(
        "the host of a virtual machine",
        "import socket\nsocket.socket(socket.AF_VSOCK, socket.SOCK_STREAM)",
        NO_FAMILY,
        optional="the kernel may lack AF_VSOCK",
    ),
    Attack("netlink", "import socket\nsocket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0)",
           NO_FAMILY),
    Attack(
        "the kernel's cryptography",
        "import socket\nsocket.socket(socket.AF_ALG, socket.SOCK_SEQPACKET)",
        NO_FAMILY,
        optional="the kernel may lack AF_ALG",
    ),
    Attack(
        "a socket of the host by its path",
        "import socket\nsocket.socket(socket.AF_UNIX).connect(given['unix'])",
        ABSENT,
    ),
    Attack(
        "an abstract socket of the host",
        "import socket\nsocket.socket(socket.AF_UNIX).connect('\\0' + given['abstract'])",
        "ConnectionRefusedError",
        deeper=((("landlock", "network namespace"), "ConnectionRefusedError"),),
    ),
)  # fmt: skip

PROCESSES = (
    Attack(
        "seeing other processes",
        "assert [p for p in os.listdir('/proc') if p.isdigit() and p != str(os.getpid())]",
        "AssertionError",
    ),
    Attack("knowing a parent", "assert os.getppid()", "AssertionError"),
    Attack("knowing the host's name", "assert os.uname().nodename == given['host']",
           "AssertionError"),
    Attack("killing somebody", "os.kill(given['victim'], 9)", "ProcessLookupError"),
    Attack("a signal to everybody", "os.kill(-1, 0)", "ProcessLookupError"),
    Attack("ptrace", "call('ptrace', 0, 0, 0, 0)", NO),
    Attack(
        "another's memory",
        "local, remote = (ctypes.c_char * 4)(), (ctypes.c_char * 4)(*b'word')\n"
        "vector = lambda at: (ctypes.c_void_p * 2)(ctypes.addressof(at), 4)\n"
        "call('process_vm_readv', os.getpid(), vector(local), 1, vector(remote), 1, 0)\n"
        "assert local.value == b'word'",
        NO,
    ),
    Attack("another's descriptors", "call(438, os.pidfd_open(os.getpid()), 1, 0)", UNKNOWN),
    Attack("escaping the killer of what runs out of memory",
           "open('/proc/self/oom_score_adj', 'w').write('0')", NO),
)  # fmt: skip

NAMESPACES = (
    Attack(
        "a user namespace",
        "call('unshare', 0x10000000)",
        NO,
        deeper=((("seccomp",), FULL),),
    ),
    Attack("a mount namespace", "call('unshare', 0x20000)", NO, free="owner",
           deeper=((("seccomp",), NO),)),
    Attack(
        "a user namespace by clone",
        "child = call(56, 0x10000000 | 17, None, None, None, None)\n"
        "if not child: os._exit(0)\n"
        "os.waitpid(child, 0)",
        NO,
        deeper=((("seccomp",), FULL),),
    ),
    Attack("clone3", "reached(435, None, 0)", UNKNOWN),
    Attack("another's namespace", "call('setns', os.open('/proc/self/ns/uts', 0), 0)", NO,
           free="owner", deeper=((("seccomp",), NO),)),
    Attack("mount", "call('mount', b'x', b'/tmp', b'tmpfs', 0, None)", NO, free="owner",
           deeper=((("seccomp", "landlock"), NO),)),
    Attack("umount", "call('umount2', b'/proc', 2)", NO, free="owner",
           deeper=((("seccomp", "landlock"), NO),)),
    Attack("chroot", "os.chroot('/')", NO, free="owner", deeper=((("seccomp",), NO),)),
    Attack("the new calls to mount", "call(430, b'tmpfs', 0)", UNKNOWN, free="owner",
           deeper=((("seccomp",), NO),)),
    Attack("a detached mount", "call(428, -100, b'/proc', 1)", UNKNOWN, free="owner",
           deeper=((("seccomp",), NO),)),
    Attack("a name for the host", "import socket\nsocket.sethostname('x')", NO, free="owner",
           deeper=((("seccomp",), NO),)),
    Attack("being root", "os.setuid(0)", "Invalid argument", free="owner"),
    Attack(
        "a capability",
        "held = [line for line in open('/proc/self/status') if line.startswith('Cap')]\n"
        "assert any(int(line.split()[1], 16) for line in held if not line.startswith('CapB'))",
        "AssertionError",
        free="owner",
    ),
    Attack(
        "a setting of the kernel",
        "found = []\n"
        "for at, _, names in os.walk('/proc/sys'):\n"
        "    for name in names:\n"
        "        try: found.append(os.close(os.open(f'{at}/{name}', os.O_WRONLY)))\n"
        "        except OSError: pass\n"
        "assert found",
        "AssertionError",
        free="owner",
    ),
)  # fmt: skip

KERNEL = (
    Attack("typing into a terminal", "import fcntl\n"
           "try: fcntl.ioctl(os.open('/dev/null', 0), 0x5412, b'x')\n"
           "except OSError as error: assert error.errno == errno.ENOTTY, error",
           "Operation not permitted"),
    Attack("pasting into a console", "import fcntl\n"
           "try: fcntl.ioctl(os.open('/dev/null', 0), 0x541C, b'x')\n"
           "except OSError as error: assert error.errno == errno.ENOTTY, error",
           "Operation not permitted"),
    Attack("io_uring", "reached(425, 1, None)", UNKNOWN, optional="sysctl io_uring_disabled"),
    Attack("userfaultfd", "call(323, 1)", UNKNOWN, optional="may be configured out"),
    Attack("bpf", "reached(321, 0, None, 5000)", NO),
    Attack("perf", "reached(298, None, 0, -1, -1, 0)", NO, optional="may be configured out"),
    Attack("keyctl", "reached(250, 0, -3, 0)", NO),
    Attack("add_key", "reached(248, None, None, None, 0, 0)", NO),
    Attack("memory that is a file", "call(319, b'x', 0)", UNKNOWN),
    Attack("secret memory", "call(447, 0)", UNKNOWN, optional="may be configured out"),
    Attack("shared memory of System V", "reached(29, 0x7FFFFF01, 0, 0)", UNKNOWN),
    Attack("semaphores of System V", "reached(64, 0x7FFFFF01, 0, 0)", UNKNOWN),
    Attack("messages of System V", "reached(68, 0x7FFFFF01, 0)", UNKNOWN),
    Attack("inotify", "call('inotify_init1', 0)", NO),
    Attack("asynchronous I/O", "call(206, 1, ctypes.byref(ctypes.c_void_p(0)))", UNKNOWN,
           optional="may be configured out"),
    Attack("local descriptor tables", "reached(154, 0, ctypes.create_string_buffer(64), 64)",
           NO, optional="may be configured out"),
    Attack("the clock", "reached(227, 0, None)", NO),
    Attack("the clock's pace", "reached(159, None)", NO),
    Attack("files by handle", "reached(303, -100, b'/', ctypes.create_string_buffer(64),"
           " ctypes.create_string_buffer(8), 0)", NO),
    Attack("executable memory for all that is readable", "call(135, 0x0400000)", NO),
    Attack("placing memory on nodes", "reached(238, 0, None, 0)", NO,
           optional="may be configured out"),
    Attack("calls of the x32 ABI", "libc.syscall(0x40000000 + 39)", "another architecture"),
    Attack(
        "calls of 32-bit programs",
        "import mmap\n"
        "page = mmap.mmap(-1, 4096, prot=7)\n"
        "page.write(bytes.fromhex('53b814000000cd805bc3'))  # push; getpid by int 0x80; pop\n"
        "start = ctypes.addressof(ctypes.c_char.from_buffer(page))\n"
        "assert ctypes.CFUNCTYPE(ctypes.c_int)(start)() > 0",
        "another architecture",
        optional="the kernel may run no 32-bit programs",
    ),
)  # fmt: skip

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

ATTACKS = (*FILES, *NETWORK, *PROCESSES, *NAMESPACES, *KERNEL, *LIMITS)
