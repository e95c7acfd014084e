"""The contexts: where people will start envhub, and what each takes away.

A row says whom it imitates and what it lacks; `making.py` makes it. Its controls are what
`probes.py` must see in it, or the row does not do what it says and proves nothing.

What Docker takes away is its documented default: all but fourteen capabilities, the system
calls that its profile has no line for (seccomp/default.json of moby/profiles, for a container
without CAP_SYS_ADMIN), and paths of /proc and /sys (runtime-spec's maskedPaths and
readonlyPaths). AppArmor's and SELinux's part in it is not imitated.
"""

from __future__ import annotations

import errno
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from envhub_sandbox import bpf
from envhub_sandbox.sysno import X86_64

# the last of those that systemd's documentation lists as unused: nobody's processes are reached
SPARE = 61183
NORMAL = 1000  # `docker run --user 1000`

_BITS = {
    "CHOWN": 0, "DAC_OVERRIDE": 1, "FOWNER": 3, "FSETID": 4, "KILL": 5, "SETGID": 6,
    "SETUID": 7, "SETPCAP": 8, "NET_BIND_SERVICE": 10, "NET_RAW": 13, "SYS_CHROOT": 18,
    "MKNOD": 27, "AUDIT_WRITE": 29, "SETFCAP": 31,
}  # fmt: skip
DOCKERS_CAPABILITIES = sum(1 << bit for bit in _BITS.values())
_NOT_PODMANS = {"NET_RAW", "MKNOD", "AUDIT_WRITE"}
PODMANS_CAPABILITIES = sum(1 << _BITS[name] for name in _BITS.keys() - _NOT_PODMANS)

_EPERM, _ENOSYS = bpf.refuse(errno.EPERM), bpf.refuse(errno.ENOSYS)
_NEW_NAMESPACES = 0x7E020000  # the CLONE_NEW* flags that the profile names
_DOCKER_DENIES = """
    uselib ustat sysfs vhangup pivot_root _sysctl acct settimeofday mount umount2 swapon
    swapoff reboot sethostname setdomainname iopl ioperm create_module init_module
    delete_module get_kernel_syms query_module quotactl nfsservctl getpmsg putpmsg afs_syscall
    tuxcall security lookup_dcookie clock_settime vserver mbind set_mempolicy kexec_load
    add_key request_key keyctl migrate_pages unshare move_pages perf_event_open fanotify_init
    open_by_handle_at setns kcmp finit_module kexec_file_load bpf userfaultfd io_uring_setup
    io_uring_enter io_uring_register open_tree move_mount fsopen fsconfig fsmount fspick
    pidfd_getfd process_madvise mount_setattr quotactl_fd set_mempolicy_home_node syslog
    lsm_get_self_attr lsm_set_self_attr lsm_list_modules"""
_GET_MEMPOLICY = 239
_AF_ALG, _AF_VSOCK = 38, 40
_DOCKERS_NEWEST = 466  # removexattrat; runc answers ENOSYS to what is newer than the profile

Rules = Mapping[int, bpf.Leaf]


def _dockers_filter() -> Rules:
    rules = {X86_64[name]: bpf.answer(_EPERM) for name in _DOCKER_DENIES.split()}
    rules[_GET_MEMPOLICY] = bpf.answer(_EPERM)
    rules[X86_64["clone"]] = bpf.if_bits(0, _NEW_NAMESPACES, _EPERM)
    rules[X86_64["clone3"]] = bpf.answer(_ENOSYS)
    rules[X86_64["socket"]] = bpf.if_among(0, (_AF_ALG, _AF_VSOCK), _EPERM)
    persons = (0, 8, 0x20000, 0x20008, 0xFFFFFFFF)
    rules[X86_64["personality"]] = bpf.unless_among(0, persons, _EPERM)
    return rules | dict.fromkeys(range(_DOCKERS_NEWEST + 1, 1000), bpf.answer(_ENOSYS))


def _landlock_refused(number: int) -> Rules:
    names = ("landlock_create_ruleset", "landlock_add_rule", "landlock_restrict_self")
    return {X86_64[name]: bpf.answer(bpf.refuse(number)) for name in names}


def _seccomp_refused() -> Rules:
    """Refuse it as a kernel without CONFIG_SECCOMP does."""
    einval = bpf.refuse(errno.EINVAL)
    get_and_set = (21, 22)  # PR_GET_SECCOMP, PR_SET_SECCOMP
    return {
        X86_64["seccomp"]: bpf.answer(einval),
        X86_64["prctl"]: bpf.if_among(0, get_and_set, einval),
    }


@dataclass(frozen=True, slots=True)
class Context:
    """One row.

    Args:
        imitates: whom.
        lacks: what it takes away.
        controls: what probes see in it.
        uid: that the command runs as; None is whoever asks. Whoever is not root and asks for
            a normal user stays himself.
        user_namespace: it lies in a user namespace of its own, each user mapped to itself.
        exhausted: namespaces of which that one allows none, such as "user".
        network: it has a network namespace of its own, with a loopback that is up.
        uncovered: its /proc and /sys are not masked.
        image: it has a root, process numbers, and names of its own, and a container's /proc.
        marker: the file in it by which programs recognise its kind.
        capabilities: the bounding set, and what root has of it; None leaves both.
        filter: which system calls are refused, and how.
        no_new_privs: it cannot gain a privilege by exec.
        read_only: all its files but those in /tmp and /dev.
        environment: what is set in it.
        missing: how the first finding of `envhub doctor` begins that is needed and not there;
            "" where strict isolation can be had.
        layers: of which a hub names one when it refuses there.
        best: the highest tier that works; "" for none.
        private: a package of ours lies where only root can reach it.
        processes: that it may have at once; None is no limit of its own.
    """

    imitates: str
    lacks: str
    controls: Mapping[str, object]
    uid: int | None = None
    user_namespace: bool = False
    exhausted: tuple[str, ...] = ()
    network: bool = False
    image: bool = False
    uncovered: bool = False
    marker: str = ""
    capabilities: int | None = None
    filter: Rules = field(default_factory=dict)
    no_new_privs: bool = False
    read_only: bool = False
    environment: Mapping[str, str] = field(default_factory=dict)
    private: bool = False
    processes: int | None = None
    missing: str = ""
    layers: tuple[str, ...] = ()
    best: str = "strict"


_USER_AND_MOUNT = "user and mount namespaces"
_PID_AND_PROC = "pid namespace with its own /proc"
_NAMESPACES_WORK = {
    "unshare user": "works", "clone user": "works", "clone3": "EINVAL", "unshare net": "works",
    "own proc": "works",
}  # fmt: skip
_FREE = {**_NAMESPACES_WORK, "seccomp": "works", "seccomp by prctl": "works"}
_NO_USER_NAMESPACE = {
    "unshare user": "ENOSPC", "clone user": "ENOSPC", "unshare net": "ENOSPC",
    "own proc": "ENOSPC", "seccomp": "works", "filters": 0,
}  # fmt: skip
_IMAGE = {
    "process": 1, "kcore": "covered", "timer_list": "covered", "firmware": "empty",
    "sysctls": "read-only", "hostname": "context", "interfaces": ["lo"],
    "loopback": "works",
}  # fmt: skip
_MASKED = {
    **_IMAGE, "unshare user": "works", "clone user": "works", "unshare net": "works",
    "own proc": "EPERM", "mount": "EPERM", "filters": 0, "bounding": PODMANS_CAPABILITIES,
}  # fmt: skip
_DOCKER = {
    **_IMAGE, "unshare user": "EPERM", "clone user": "EPERM", "clone3": "ENOSYS",
    "unshare net": "EPERM", "own proc": "EPERM", "mount": "EPERM", "umount": "EPERM",
    "pivot_root": "EPERM", "setns": "EPERM", "keyctl": "EPERM", "add_key": "EPERM",
    "bpf": "EPERM", "perf": "EPERM", "ptrace": "works", "vsock": "EPERM", "seccomp": "works",
    "newest call": "ENOSYS", "no_new_privs": 0, "filters": 1, "bounding": DOCKERS_CAPABILITIES,
}  # fmt: skip

CONTEXTS: dict[str, Context] = {
    "bare-root": Context(
        imitates="this machine, as root",
        lacks="nothing: the control of all others",
        controls={**_FREE, "uid": 0, "mount": "ENODEV", "filters": 0},
        uid=0,
    ),
    "bare-user": Context(
        imitates="this machine, as a normal user",
        lacks="root",
        controls={**_FREE, "uid": SPARE, "mount": "EPERM", "capabilities": 0, "filters": 0},
        uid=SPARE,
    ),
    "no-userns-root": Context(
        imitates="a container with a mapped root, where user.max_user_namespaces is 0",
        lacks="user namespaces, all capabilities but Docker's",
        controls={**_NO_USER_NAMESPACE, "uid": 0, "capabilities": DOCKERS_CAPABILITIES,
                  "bounding": DOCKERS_CAPABILITIES},
        uid=0,
        user_namespace=True,
        exhausted=("user",),
        capabilities=DOCKERS_CAPABILITIES,
        missing=_USER_AND_MOUNT,
        best="uid",
        layers=("user namespace",),
    ),
    "no-userns-user": Context(
        imitates="a machine where user.max_user_namespaces is 0",
        lacks="root, user namespaces",
        controls={**_NO_USER_NAMESPACE, "uid": SPARE, "capabilities": 0},
        uid=SPARE,
        user_namespace=True,
        exhausted=("user",),
        missing=_USER_AND_MOUNT,
        best="landlock",
        layers=("user namespace",),
    ),
    "no-netns": Context(
        imitates="a machine where user.max_net_namespaces is 0",
        lacks="root, network namespaces",
        controls={**_FREE, "uid": SPARE, "unshare net": "ENOSPC", "filters": 0},
        uid=SPARE,
        user_namespace=True,
        exhausted=("net",),
        missing="network namespace",
        best="standard",
        layers=("network namespace",),
    ),
    "no-fork": Context(
        imitates="a container at its --pids-limit, a shell at its `ulimit -u`",
        lacks="root, processes",
        controls={"uid": SPARE, "fork": "EAGAIN"},
        uid=SPARE,
        user_namespace=True,
        processes=1,
        missing=_USER_AND_MOUNT,
        best="",
        layers=("launcher",),
    ),
    "netns": Context(
        imitates="`unshare --net`, `docker run --privileged --network none`",
        lacks="every network but a loopback of its own",
        controls={**_FREE, "interfaces": ["lo"], "loopback": "works"},
        network=True,
    ),
    "private-home": Context(
        imitates="a container's root with its packages below /root, as uv and pyenv put them",
        lacks="all capabilities but Docker's; other users cannot read a package of ours",
        controls={**_FREE, "uid": 0, "mount": "EPERM", "capabilities": DOCKERS_CAPABILITIES,
                  "packages": "private"},
        uid=0,
        capabilities=DOCKERS_CAPABILITIES,
        private=True,
        missing="strict,",  # whichever launcher is tried first
        best="landlock",
        layers=("spare user",),
    ),
    "masked-proc-root": Context(
        imitates="`podman run`, or Docker with seccomp=unconfined",
        lacks="a /proc without covers, all capabilities but Podman's",
        controls={**_MASKED, "uid": 0, "capabilities": PODMANS_CAPABILITIES},
        uid=0,
        network=True,
        image=True,
        marker="/run/.containerenv",
        capabilities=PODMANS_CAPABILITIES,
        missing=_PID_AND_PROC,
        best="standard",
        layers=("/proc of its own",),
    ),
    "masked-proc-user": Context(
        imitates="the same with --user 1000",
        lacks="a /proc without covers, root",
        controls={**_MASKED, "uid": NORMAL, "capabilities": 0},
        uid=NORMAL,
        network=True,
        image=True,
        marker="/run/.containerenv",
        capabilities=PODMANS_CAPABILITIES,
        missing=_PID_AND_PROC,
        best="standard",
        layers=("/proc of its own",),
    ),
    "docker": Context(
        imitates="`docker run`",
        lacks="namespaces, mounts, a /proc without covers, all but fourteen capabilities",
        controls={**_DOCKER, "uid": 0, "capabilities": DOCKERS_CAPABILITIES},
        uid=0,
        network=True,
        image=True,
        marker="/.dockerenv",
        capabilities=DOCKERS_CAPABILITIES,
        filter=_dockers_filter(),
        missing=_USER_AND_MOUNT,
        best="uid",
        layers=("user namespace",),
    ),
    "docker-nnp": Context(
        imitates="`docker run --security-opt no-new-privileges`",
        lacks="what `docker` does, setuid programs",
        controls={**_DOCKER, "uid": 0, "capabilities": DOCKERS_CAPABILITIES,
                  "no_new_privs": 1},
        uid=0,
        network=True,
        image=True,
        marker="/.dockerenv",
        capabilities=DOCKERS_CAPABILITIES,
        filter=_dockers_filter(),
        no_new_privs=True,
        missing=_USER_AND_MOUNT,
        best="uid",
        layers=("user namespace",),
    ),
    "docker-user": Context(
        imitates="`docker run --user 1000`",
        lacks="what `docker` does, root",
        controls={**_DOCKER, "uid": NORMAL, "capabilities": 0},
        uid=NORMAL,
        network=True,
        image=True,
        marker="/.dockerenv",
        capabilities=DOCKERS_CAPABILITIES,
        filter=_dockers_filter(),
        missing=_USER_AND_MOUNT,
        best="landlock",
        layers=("user namespace",),
    ),
    "kubernetes": Context(
        imitates="a pod of the standard `restricted`, with readOnlyRootFilesystem",
        lacks="what `docker-user` does, the bounding set, setuid programs, files but in /tmp",
        controls={**_DOCKER, "uid": NORMAL, "capabilities": 0, "bounding": 0,
                  "no_new_privs": 1, "write /": "EROFS", "write /usr": "EROFS",
                  "write /tmp": "works"},
        uid=NORMAL,
        network=True,
        image=True,
        capabilities=0,
        filter=_dockers_filter(),
        no_new_privs=True,
        read_only=True,
        environment={"KUBERNETES_SERVICE_HOST": "10.96.0.1"},
        missing=_USER_AND_MOUNT,
        best="landlock",
        layers=("user namespace",),
    ),
    "landlock-absent": Context(
        imitates="a kernel without Landlock",
        lacks="Landlock, by ENOSYS",
        controls={**_FREE, "landlock": "ENOSYS"},
        filter=_landlock_refused(errno.ENOSYS),
    ),
    "landlock-off": Context(
        imitates="a kernel whose lsm= names no Landlock",
        lacks="Landlock, by EOPNOTSUPP",
        controls={**_FREE, "landlock": "ENOTSUP"},
        filter=_landlock_refused(errno.EOPNOTSUPP),
    ),
    "no-seccomp": Context(
        imitates="a kernel without CONFIG_SECCOMP",
        lacks="filters of system calls",
        controls={**_NAMESPACES_WORK, "seccomp": "EINVAL", "seccomp by prctl": "EINVAL"},
        filter=_seccomp_refused(),
        missing="seccomp",
        best="",
        layers=("seccomp",),
    ),
}  # fmt: skip

# what each fix that doctor prints changes
_UNCONFINED = {"filter": {}, "uncovered": True}
_FIXES: dict[str, dict[str, object]] = {
    "no-userns-root": {"exhausted": ()},
    "no-userns-user": {"exhausted": ()},
    "no-netns": {"exhausted": ()},
    "no-fork": {"processes": 4096},
    "private-home": {"private": False, "network": True},  # which gives it mounts of its own
    "masked-proc-root": {"uncovered": True},
    "masked-proc-user": {"uncovered": True},
    "docker": _UNCONFINED,
    "docker-nnp": _UNCONFINED,
    "docker-user": _UNCONFINED,
    "kubernetes": _UNCONFINED,
    "no-seccomp": {"filter": {}},
}
FIXED = {
    f"{name}-fixed": replace(
        CONTEXTS[name],
        controls={},
        missing="",
        layers=(),
        best="strict",
        **changes,  # type: ignore[arg-type]
    )
    for name, changes in _FIXES.items()
}
