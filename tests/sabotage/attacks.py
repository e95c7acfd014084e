"""Attacks that miss one protection only, beside those of tests/sandbox/table.py.

They need no control of their own: each must fail as long as its protection stands, and work
as soon as it does not. `given` has what `trying.py` puts there. What is tried harms nothing
that the tests have not made, for without a protection it is done.
"""

from __future__ import annotations

from tests.sandbox.attack import Attack
from tests.sandbox.table import KERNEL

_KEEPER = """
from envhub_sandbox import seccomp, sysno
import resource
if not os.fork():
    seccomp.keeper_filter().install()
    try: {}
    except BaseException: os._exit(1)
    os._exit(0)
assert os.wait()[1] == 0
"""
# its number is in no version of Python
_SCHED_SETATTR = "call(314, {}, (ctypes.c_uint32 * 12)(48, 3, 0, 0, 19), 0)"


def _keeper(name: str, change: str) -> Attack:
    return Attack(f"changing the process that one is kept by: {name}", _KEEPER.format(change),
                  "")  # fmt: skip


CHANGES = {
    "prlimit64": "resource.prlimit({}, resource.RLIMIT_CORE)",
    "sched_setparam": "call(142, {}, (ctypes.c_int * 1)(0))",
    "sched_setscheduler": "os.sched_setscheduler({}, os.SCHED_BATCH, os.sched_param(0))",
    "sched_setattr": _SCHED_SETATTR,
    "sched_setaffinity": "os.sched_setaffinity({}, os.sched_getaffinity(0))",
    "setpriority": "os.setpriority(os.PRIO_PROCESS, {}, 19)",
    "ioprio_set": "call(251, 1, {}, 3 << 13)",
}
_NEWER = "a call that is newer than the table"
_CODE = {attack.name: attack.code for attack in KERNEL} | {
    _NEWER: "reached(449, None, 0, 0, None, 0)"
}
_ALIEN = ("calls of the x32 ABI", "calls of 32-bit programs", _NEWER)
KEEPER = (
    *(_keeper(name, change.format(1)) for name, change in CHANGES.items()),
    *(_keeper(name, f"exec({_CODE[name]!r})") for name in _ALIEN),
)
# its own number, and not 0, stands for another's: what is allowed is oneself as 0
FENCED = tuple(
    Attack(
        f"changing a process by its number: {name}",
        f"import resource\n{change.format('os.getpid()')}",
        "",
    )
    for name, change in CHANGES.items()
)

DESCRIPTORS = (
    Attack(
        "speaking as the zygote",
        "import socket, stat\n"
        "for number in range(5, 64):\n"
        "    try: found = stat.S_ISSOCK(os.fstat(number).st_mode)\n"
        "    except OSError: continue\n"
        "    if found and socket.socket(fileno=os.dup(number)).type == socket.SOCK_SEQPACKET:\n"
        "        os.write(number, b'{\"ended\": 0}')\n"
        "        break\n"
        "else: raise AssertionError",
        "",
    ),
    Attack("a descriptor of the owner",
           "assert os.pread(given['inheritable'], 6, 0) == b'secret'", ""),
)  # fmt: skip
FILES = (
    Attack("a file of the owner alone, in what is shown",
           "open(given['shown'] + '/private').read()", ""),
    Attack("a file of the owner's group, in what is shown",
           "open(given['shown'] + '/of-the-group').read()", ""),
    Attack("making a file of what is shown another's",
           "os.chmod(given['shown'] + '/mine', 0o600)", ""),
    Attack("packages that are masked",
           "for at, _, names in os.walk(given['masked']):\n"
           "    if names: open(os.path.join(at, names[0])).close(); break\n"
           "else: raise AssertionError", "", optional="the interpreter may have none"),
    Attack("the host's files below what was the root", "os.listdir('/tmp/oldroot/usr/share')",
           ""),
    Attack("a folder of the launcher's", "os.listdir('/tmp/newroot')", ""),
    Attack("writing to a folder of another session", "open('../left', 'w')", ""),
    Attack("a device in /tmp", "os.mknod(given['tmp'] + '/device', 0o020666, 0)", ""),
    Attack("a device in /dev/shm", "os.mknod(given['shm'] + '/device', 0o020666, 0)", ""),
)  # fmt: skip
SHARED = (
    Attack("an abstract socket of the zygote",
           "import socket\nsocket.socket(socket.AF_UNIX).connect(given['zygotes'])", ""),
    Attack("a semaphore of the zygote", "call(64, given['key'], 1, 0)", ""),
    Attack("a semaphore of the owner", "call(64, given['owners_key'], 1, 0)", ""),
    Attack("a semaphore of somebody, by its number",
           "call(66, given['semaphore'], 0, 12, 0)", ""),
    Attack("a TCP port of its own",
           "import socket\nsocket.socket(socket.AF_INET).bind(('0.0.0.0', 5555))", ""),
    Attack("seeing a process of the owner",
           "assert open(f\"/proc/{given['victim']}/comm\").read() == 'sleep\\n'", ""),
    Attack("signalling who ends it all", "assert os.getsid(0)\nos.kill(os.getsid(0), 0)", ""),
    Attack("signalling its parent", "assert os.getppid()\nos.kill(os.getppid(), 0)", ""),
    Attack("knowing its control group",
           "assert set(given['groups']) & set(open('/proc/self/cgroup').read().split())",
           "", optional="its owner may be in none of its own"),
)  # fmt: skip
LIMITED = (
    Attack("more processor time than allowed", "import resource\n"
           "resource.setrlimit(resource.RLIMIT_CPU, (1000, 1000))", ""),
    Attack("more address space than allowed", "import resource\n"
           "resource.setrlimit(resource.RLIMIT_AS, (2 << 30, 2 << 30))", ""),
    Attack("being as important as its owner",
           "assert os.getpriority(os.PRIO_PROCESS, 0) < given['nice'] + 2", ""),
    Attack("becoming more important", "os.setpriority(os.PRIO_PROCESS, 0, given['nice'])", ""),
    Attack("going before all others", "os.sched_setscheduler(0, os.SCHED_FIFO,"
           " os.sched_param(1))", ""),
    Attack("more processes than a user of ours may have", "import resource\n"
           "resource.setrlimit(resource.RLIMIT_NPROC, (5000, 5000))", ""),
)  # fmt: skip
POWERS = (
    Attack("a capability to administer, within its bounds",
           "assert libc.prctl(23, 21, 0, 0, 0) == 1", ""),
    Attack(
        "a capability, as the kernel counts them",
        "held = (ctypes.c_uint32 * 6)()\n"
        "call(125, (ctypes.c_uint32 * 2)(0x20080522, 0), held)\n"
        "assert any(held)",
        "",
    ),
    Attack(
        "a capability by running a program",
        "import subprocess, sys\n"
        "code = \"print([l for l in open('/proc/self/status') if l.startswith('CapEff')])\"\n"
        "said = subprocess.check_output([sys.executable, '-I', '-S', '-c', code])\n"
        "assert int(said.split(b't')[-1].split(b'\\\\')[0], 16)",
        "",
    ),
    Attack("a privilege to gain", "import ctypes\nassert libc.prctl(39, 0, 0, 0, 0) == 0", ""),
    Attack("being root, by all its users", "os.setresuid(0, 0, 0)", ""),
    Attack("being of root's group, by all its groups", "os.setresgid(0, 0, 0)", ""),
    Attack("being another session", "os.setresuid(*[given['first_uid'] + 900] * 3)", ""),
    Attack(_NEWER, _CODE[_NEWER], ""),
    Attack("another end than death with who started one",
           "wish = ctypes.c_int()\ncall('prctl', 1, 10, 0, 0, 0)\n"
           "call('prctl', 2, ctypes.byref(wish), 0, 0, 0)\nassert wish.value == 10", ""),
    Attack("chroot, as root of a namespace of its own",
           "call('unshare', 0x10000000)\nos.chroot('/')", ""),
)  # fmt: skip
MORE = (*KEEPER, *FENCED, *DESCRIPTORS, *FILES, *SHARED, *LIMITED, *POWERS)
