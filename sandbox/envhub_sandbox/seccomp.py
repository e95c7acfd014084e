"""Which system calls sandboxed code may make: a deny list, in groups that say why.

Deny list and not allow list: the workloads are compilers, shells and other people's Python,
and what a namespace or a limit already stops need not be stopped twice. What is denied here
is what those layers do not reach: kernel surface with a history of holes, memory that no
limit counts, quotas that are kept per user of the host, and ways to build namespaces.

ENOSYS where callers have a fall-back for an old kernel (glibc for clone3, libuv for io_uring),
EPERM where they expect a privilege to be missing.
"""

from __future__ import annotations

import errno
import signal

from . import bpf, syscalls
from .errors import LayerFailed
from .sysno import NEWEST, X86_64
from .tiers import UIDS, Grade, Ground

_NAMESPACES = (
    syscalls.CLONE_NEWNS
    | syscalls.CLONE_NEWCGROUP
    | syscalls.CLONE_NEWUTS
    | syscalls.CLONE_NEWIPC
    | syscalls.CLONE_NEWUSER
    | syscalls.CLONE_NEWPID
    | syscalls.CLONE_NEWNET
)
_AF_UNIX, _AF_INET, _AF_INET6 = 1, 2, 10
_TIOCSTI, _TIOCLINUX = 0x5412, 0x541C  # type into somebody's terminal
_HARMLESS_PERSONALITIES = (0, 0xFFFFFFFF, 8, 0x20000, 0x40000)  # default, query, UNAME26, …

NOT_IMPLEMENTED = {
    "kernel surface": """io_uring_setup io_uring_enter io_uring_register userfaultfd
        map_shadow_stack lsm_get_self_attr lsm_set_self_attr lsm_list_modules nfsservctl
        lookup_dcookie uselib _sysctl create_module get_kernel_syms query_module afs_syscall
        tuxcall security getpmsg putpmsg vserver epoll_ctl_old epoll_wait_old quotactl_fd
        fanotify_init fanotify_mark""",
    "namespaces": """clone3 open_tree move_mount fsopen fsconfig fsmount fspick mount_setattr
        open_tree_attr statmount listmount""",
    "memory outside the limits": "memfd_create memfd_secret shmget semget msgget",
    "quotas of the whole host": "io_setup",  # fs.aio-max-nr, 65,536 for everybody together
    "other processes": "pidfd_getfd process_madvise process_mrelease set_mempolicy_home_node",
}
NOT_PERMITTED = {
    "namespaces": "mount umount2 pivot_root chroot unshare setns sethostname setdomainname",
    "kernel surface": """bpf perf_event_open keyctl add_key request_key modify_ldt iopl ioperm
        init_module finit_module delete_module kexec_load kexec_file_load syslog acct quotactl
        ustat sysfs vhangup open_by_handle_at name_to_handle_at""",
    "the machine": """reboot swapon swapoff settimeofday clock_settime adjtimex
        clock_adjtime""",
    "other processes": """ptrace process_vm_readv process_vm_writev kcmp move_pages mbind
        migrate_pages set_mempolicy""",
    "quotas of the host's user": "inotify_init inotify_init1",
}
_CHANGES_A_PROCESS = (
    "prlimit64", "sched_setparam", "sched_setscheduler", "sched_setattr", "sched_setaffinity",
)  # fmt: skip
OTHER_IDENTITIES = ("setuid", "setgid", "setreuid", "setregid", "setfsuid", "setfsgid",
                     "setgroups")  # fmt: skip
# without namespaces, what reaches beyond the session: processes of the same user, queues and
# segments of the host by their numbers, and the mode and times of any file that is one's own
SHARED_QUEUES = "mq_open shmat shmctl semop semtimedop semctl msgsnd msgrcv msgctl"
OWN_FILES = """chmod fchmod fchmodat fchmodat2 chown fchown lchown fchownat utime utimes
    futimesat utimensat setxattr lsetxattr fsetxattr removexattr lremovexattr fremovexattr
    setxattrat removexattrat file_setattr"""
SERVING = "bind listen accept accept4"
_IOPRIO_WHO_PROCESS = 1
_PRIO_USER, _IOPRIO_WHO_USER = 2, 3  # all processes of a user, process 1 among them
# what the zygote itself needs, to build the namespaces of its sessions
_SETUP = ("mount", "umount2", "unshare", "sethostname", "clone")


def session_filter(grade: Grade) -> syscalls.Filter:
    """Return the filter of a session process and of agent code."""
    return _filter(_rules(grade))


def zygote_filter(ground: Ground) -> syscalls.Filter:
    """Return the filter of a zygote: the same, less what building a session takes.

    It may not undo that it dies with its launcher, nor soften it: process 1 of a namespace
    ignores whatever signal it does not handle, but SIGKILL from outside. What it forks has
    this filter, too, and is told that it got the signal which it asked for: it dies with all
    that is around it anyway, and programs that insist must run.
    """
    rules = _rules(ground.grade)
    deadly = (signal.SIGKILL, signal.SIGTERM) if ground.grade.fenced else (signal.SIGKILL,)
    kept = bpf.unless_among(1, deadly, bpf.refuse(0))
    rules[X86_64["prctl"]] = _where(0, syscalls.PR_SET_PDEATHSIG, kept)
    if ground.grade.namespaces:
        for name in _SETUP:
            del rules[X86_64[name]]
    if ground.grade.tier == "uid":
        # it holds CAP_SETUID: to become a session's user, and not root
        whole = 0xFFFFFFFF & ~(UIDS - 1)
        block = bpf.unless_all(
            [(index, whole, ground.first_uid) for index in range(3)], bpf.refuse(errno.EPERM)
        )
        rules |= {X86_64[name]: block for name in ("setresuid", "setresgid")}
        refused = bpf.answer(bpf.refuse(errno.EPERM))
        rules |= dict.fromkeys((X86_64[name] for name in OTHER_IDENTITIES), refused)
    return _filter(rules)


def _where(index: int, value: int, rule: bpf.Leaf) -> bpf.Leaf:
    """Apply `rule` if the argument has this value, else allow."""
    return (*bpf.if_among(index, (value,), bpf.ALLOW)[:-1], *rule)


def _filter(rules: dict[int, bpf.Leaf]) -> syscalls.Filter:
    return syscalls.Filter(bpf.assemble(rules, newest=NEWEST, above=bpf.refuse(errno.ENOSYS)))


def keeper_filter() -> syscalls.Filter:
    """Return a second filter for code that runs beside a process 1 that it must not touch.

    Whoever has the same user may otherwise take away another process's descriptors and CPU
    time. Signals are not its matter: pid 1 gets only those that it handles.
    """
    eperm = bpf.refuse(errno.EPERM)
    rules = dict.fromkeys(_CHANGES_A_PROCESS, bpf.if_among(0, (1,), eperm))
    rules["setpriority"] = bpf.if_any(((1, 1), (0, _PRIO_USER)), eperm)
    rules["ioprio_set"] = bpf.if_any(((1, 1), (0, _IOPRIO_WHO_USER)), eperm)
    return _filter({X86_64[name]: leaf for name, leaf in rules.items()})


def require_known_machine() -> None:
    """Refuse a processor whose system calls are not in the table.

    Raises:
        LayerFailed: it is not x86-64.
    """
    if syscalls.MACHINE != "x86_64":
        raise LayerFailed(
            "seccomp",
            f"the filter knows the system calls of x86_64, not of {syscalls.MACHINE}",
            hint="run on x86-64; other processors are not supported yet",
        )


def _rules(grade: Grade) -> dict[int, bpf.Leaf]:
    eperm, enosys = bpf.refuse(errno.EPERM), bpf.refuse(errno.ENOSYS)
    no_family = bpf.refuse(errno.EAFNOSUPPORT)
    rules: dict[str, bpf.Leaf] = {}
    for names in NOT_IMPLEMENTED.values():
        rules |= dict.fromkeys(names.split(), bpf.answer(enosys))
    for names in NOT_PERMITTED.values():
        rules |= dict.fromkeys(names.split(), bpf.answer(eperm))
    rules["clone"] = bpf.if_bits(0, _NAMESPACES, eperm)
    rules["ioctl"] = bpf.if_among(1, (_TIOCSTI, _TIOCLINUX), eperm)
    rules["personality"] = bpf.unless_among(0, _HARMLESS_PERSONALITIES, eperm)
    # AF_VSOCK is not held by a network namespace, AF_ALG and AF_NETLINK are kernel surface
    rules["socket"] = bpf.unless_among(0, (_AF_UNIX,), no_family)
    if not grade.network or not grade.namespaces:  # the host's sockets would be in reach
        rules["socket"] = bpf.answer(no_family)
    if grade.open_network:  # and the host's abstract Unix sockets not even then
        rules["socket"] = bpf.unless_among(0, (_AF_INET, _AF_INET6), no_family)
        # Landlock's rule on ports is for TCP that binds: not UDP, MPTCP, or listening unbound
        rules |= dict.fromkeys(SERVING.split(), bpf.answer(bpf.refuse(errno.EACCES)))
    rules["socketpair"] = bpf.unless_among(0, (_AF_UNIX,), no_family)
    devices = (0o020000, 0o060000)
    rules["mknod"] = bpf.if_among(1, devices, eperm, mask=0o170000)
    rules["mknodat"] = bpf.if_among(2, devices, eperm, mask=0o170000)
    for name, index in (("chmod", 1), ("fchmod", 1), ("fchmodat", 2), ("fchmodat2", 2)):
        rules[name] = bpf.if_bits(index, 0o6000, eperm)  # setuid and setgid
    if not grade.namespaces:
        rules |= dict.fromkeys(SHARED_QUEUES.split(), bpf.answer(enosys))
        myself = ((0, 0xFFFFFFFF, 0),)
        rules |= dict.fromkeys(_CHANGES_A_PROCESS, bpf.unless_all(myself, eperm))
        rules["setpriority"] = bpf.unless_all((*myself, (1, 0xFFFFFFFF, 0)), eperm)
        one = (0, 0xFFFFFFFF, _IOPRIO_WHO_PROCESS)
        rules["ioprio_set"] = bpf.unless_all((one, (1, 0xFFFFFFFF, 0)), eperm)
    if grade.tier == "landlock":
        rules |= dict.fromkeys(OWN_FILES.split(), bpf.answer(eperm))
    return {X86_64[name]: leaf for name, leaf in rules.items()}
