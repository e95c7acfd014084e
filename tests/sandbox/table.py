"""The attacks, as a table: what is tried, and what it must meet. See `attack.py`."""

from __future__ import annotations

from tests.sandbox.attack import ABSENT, FULL, NO, NO_FAMILY, READ_ONLY, UNKNOWN, Attack
from tests.sandbox.table_of_limits import LIMITS

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
    Attack("a setuid program by its descriptor", "path = given['scratch'] + '/program'\n"
           "os.fchmod(os.open(path, os.O_CREAT | os.O_RDWR), 0o4755)", NO),
    Attack("a setuid program by its name here", "path = given['scratch'] + '/program'\n"
           "open(path, 'w')\ncall(268, -100, path.encode(), 0o4755)", NO),
    Attack("a setuid program by the newest call", "path = given['scratch'] + '/program'\n"
           "open(path, 'w')\ncall(452, -100, path.encode(), 0o4755, 0)", NO,
           optional="Linux 6.6 has it"),
    Attack("a device by the oldest call",
           "call(133, (given['scratch'] + '/device').encode(), 0o020666, 0)", NO),
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
    Attack(
        "sockets of any family, in pairs",  # made, and only then found to be no pairs
        "import socket\n"
        "try: socket.socketpair(socket.AF_INET)\n"
        "except OSError as error: assert error.errno == errno.EOPNOTSUPP, error",
        NO_FAMILY,
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

ATTACKS = (*FILES, *NETWORK, *PROCESSES, *NAMESPACES, *KERNEL, *LIMITS)
