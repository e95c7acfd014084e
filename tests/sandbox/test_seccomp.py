"""The filters, interpreted in Python as the kernel would, and compared with the rules."""

from __future__ import annotations

import errno
import json
import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from envhub_sandbox import LayerFailed, bpf, seccomp, syscalls, tiers
from envhub_sandbox.sysno import NEWEST, X86_64
from envhub_sandbox.tiers import STRICT, UIDS, Grade, Ground
from tests.sandbox.alone import Zygote, launchers

X86_64_ARCH, I386_ARCH, AARCH64_ARCH = 0xC000003E, 0x40000003, 0xC00000B7
words = st.integers(0, 2**64 - 1)
halves = st.integers(0, 2**32 - 1)


def program_of(installed: syscalls.Filter) -> bytes:
    return installed._buffer.raw


SESSION = program_of(seccomp.session_filter(STRICT))
ZYGOTE = program_of(seccomp.zygote_filter(Ground()))
KEEPER = program_of(seccomp.keeper_filter())
FENCED = {tier: program_of(seccomp.session_filter(Grade(tier))) for tier in tiers.FENCED}
NO_NETWORK = program_of(seccomp.session_filter(Grade("standard", network=False)))


def interpret(program: bytes, number: int, arguments: tuple[int, ...], arch: int) -> int:
    """Run a seccomp filter: the few kinds of instructions that ours are made of."""
    data = struct.pack("<IIQ6Q", number, arch, 0, *arguments)
    instructions = list(struct.iter_unpack("<HBBI", program))
    at, accumulator = 0, 0
    while True:
        code, if_true, if_false, value = instructions[at]
        at += 1
        match code:
            case 0x20:  # load a word of the data
                (accumulator,) = struct.unpack_from("<I", data, value)
            case 0x54:  # and
                accumulator &= value
            case 0x05:  # jump
                at += value
            case 0x15:
                at += if_true if accumulator == value else if_false
            case 0x35:
                at += if_true if accumulator >= value else if_false
            case 0x45:
                at += if_true if accumulator & value else if_false
            case 0x06:  # return
                return int(value)
            case _:
                raise AssertionError(f"unknown instruction {code:#x}")


def action(program: bytes, number: int, *arguments: int, arch: int = X86_64_ARCH) -> str:
    """What a filter does with a call: "allow", "kill", or an errno's name; 0 is one, too."""
    padded = (*arguments, 0, 0, 0, 0, 0, 0)[:6]
    result = interpret(program, number, padded, arch)
    if result & 0xFFFF0000 == 0x00050000:
        return errno.errorcode.get(result & 0xFFFF, "told that it was done")
    return {0x7FFF0000: "allow", 0x80000000: "kill"}[result]


def always(name: str) -> str | None:
    """What the tables say of a call whatever its arguments; None if nothing."""
    for table, answer in (
        (seccomp.NOT_IMPLEMENTED, "ENOSYS"),
        (seccomp.NOT_PERMITTED, "EPERM"),
    ):
        if any(name in group.split() for group in table.values()):
            return answer
    return None


BY_ARGUMENT = {
    "clone", "ioctl", "personality", "socket", "socketpair", "mknod", "mknodat", "chmod",
    "fchmod", "fchmodat", "fchmodat2",
}  # fmt: skip
NAMES = {number: name for name, number in X86_64.items()}


def test_every_number_gets_what_the_tables_say() -> None:
    """All of them, and all other numbers are allowed, and those of the future are not."""
    for number in range(NEWEST + 600):
        name = NAMES.get(number, "")
        if name in BY_ARGUMENT:
            continue
        expected = always(name) or ("allow" if number <= NEWEST else "ENOSYS")
        assert action(SESSION, number, *[2**64 - 1] * 6) == expected, name or number
        assert action(SESSION, number) == expected, name or number


@given(st.integers(0x40000000, 2**32 - 1), st.tuples(*[words] * 6))
def test_numbers_of_the_x32_abi_kill(number: int, arguments: tuple[int, ...]) -> None:
    for program in (SESSION, ZYGOTE, KEEPER):
        assert action(program, number, *arguments) == "kill"


@given(st.integers(0, 2**32 - 1), st.tuples(*[words] * 6), halves)
def test_calls_of_another_architecture_kill(
    number: int, arguments: tuple[int, ...], arch: int
) -> None:
    for other in (I386_ARCH, AARCH64_ARCH, arch if arch != X86_64_ARCH else 0):
        assert action(SESSION, number, *arguments, arch=other) == "kill"


def expected_by_argument(name: str, arguments: tuple[int, ...]) -> str:
    """The rules once more, written down as a person would check them."""
    first, second, third = (argument & 0xFFFFFFFF for argument in arguments[:3])
    match name:
        case "clone":
            return "EPERM" if first & 0x7E020000 else "allow"
        case "ioctl":
            return "EPERM" if second in (0x5412, 0x541C) else "allow"
        case "personality":
            harmless = first in (0, 0xFFFFFFFF, 8, 0x20000, 0x40000)
            return "allow" if harmless else "EPERM"
        case "socket" | "socketpair":
            return "allow" if first == 1 else "EAFNOSUPPORT"
        case "mknod":
            return "EPERM" if second & 0o170000 in (0o020000, 0o060000) else "allow"
        case "mknodat":
            return "EPERM" if third & 0o170000 in (0o020000, 0o060000) else "allow"
        case "chmod" | "fchmod":
            return "EPERM" if second & 0o6000 else "allow"
        case "fchmodat" | "fchmodat2":
            return "EPERM" if third & 0o6000 else "allow"
    raise AssertionError(name)


near = st.sampled_from(
    [0, 1, 2, 8, 16, 17, 38, 40, 0o4755, 0o2755, 0o644, 0o020666, 0o060666, 0o010644, 0o100644,
     0x5412, 0x541C, 0x20000, 0x40000, 0x0400000, 0x10000000, 0x40000000, 0x80, 0xFFFFFFFF]
)  # fmt: skip
# what the kernel reads as an int has an upper half that it ignores, and so must the filter
dressed = st.builds(lambda low, high: low | high << 32, near | halves, st.just(0) | halves)


@given(st.sampled_from(sorted(BY_ARGUMENT)), st.tuples(*[dressed] * 6))
def test_calls_are_judged_by_their_arguments(name: str, arguments: tuple[int, ...]) -> None:
    expected = expected_by_argument(name, arguments)

    assert action(SESSION, X86_64[name], *arguments) == expected


def test_a_zygote_may_build_namespaces_and_else_no_more_than_a_session() -> None:
    for number in range(NEWEST + 10):
        name = NAMES.get(number, "")
        wide = action(ZYGOTE, number, *[2**64 - 1] * 6)
        if name in ("mount", "umount2", "unshare", "sethostname", "clone"):
            assert wide == "allow"
        else:
            assert wide == action(SESSION, number, *[2**64 - 1] * 6), name or number


CHANGES = ("prlimit64", "sched_setparam", "sched_setscheduler", "sched_setattr",
           "sched_setaffinity")  # fmt: skip


@given(st.sampled_from(CHANGES), st.tuples(*[dressed] * 6))
def test_code_beside_a_keeper_may_change_every_process_but_the_first(
    name: str, arguments: tuple[int, ...]
) -> None:
    expected = "EPERM" if arguments[0] & 0xFFFFFFFF == 1 else "allow"

    assert action(KEEPER, X86_64[name], *arguments) == expected


@given(dressed, dressed)
def test_code_beside_a_keeper_cannot_reach_it_as_one_of_a_users_processes(
    which: int, who: int
) -> None:
    low_which, low_who = which & 0xFFFFFFFF, who & 0xFFFFFFFF
    nice = "EPERM" if low_which == 2 or low_who == 1 else "allow"
    disk = "EPERM" if low_which == 3 or low_who == 1 else "allow"

    assert action(KEEPER, X86_64["setpriority"], which, who) == nice
    assert action(KEEPER, X86_64["ioprio_set"], which, who) == disk


numbers = st.integers(0, 700)
leaves = st.one_of(
    st.builds(bpf.answer, st.integers(1, 133).map(bpf.refuse)),
    st.builds(bpf.if_bits, st.integers(0, 5), halves, st.just(bpf.refuse(1))),
    st.builds(
        bpf.if_among, st.integers(0, 5), st.lists(halves, max_size=5), st.just(bpf.refuse(2)),
        mask=halves,
    ),
    st.builds(
        bpf.unless_among, st.integers(0, 5), st.lists(halves, max_size=5),
        st.just(bpf.refuse(3)),
    ),
    st.builds(
        bpf.if_any, st.lists(st.tuples(st.integers(0, 5), halves), max_size=4),
        st.just(bpf.refuse(4)),
    ),
)  # fmt: skip


@given(
    st.dictionaries(numbers, leaves, max_size=60), numbers, numbers, st.tuples(*[dressed] * 6)
)
def test_any_table_is_assembled_to_a_filter_that_does_what_it_says(
    rules: dict[int, bpf.Leaf], newest: int, number: int, arguments: tuple[int, ...]
) -> None:
    """A leaf that is run alone does the same as in the tree."""
    program = bpf.assemble(rules, newest=newest, above=bpf.refuse(38))
    allow = bpf.answer(bpf.ALLOW)
    leaf = bpf.answer(bpf.refuse(38)) if number > newest else rules.get(number, allow)

    alone = interpret(b"".join(leaf), number, arguments, X86_64_ARCH)
    assert interpret(program, number, arguments, X86_64_ARCH) == alone


def test_filters_fit_the_kernels_limit_and_a_call_costs_few_comparisons() -> None:
    """BPF_MAXINSNS is 4096; a binary search over about 120 numbers takes seven steps."""
    assert len(SESSION) // 8 < 1000
    assert max(steps(SESSION, number) for number in range(NEWEST + 2)) < 40


def steps(program: bytes, number: int) -> int:
    """How many instructions an allowed or refused call costs."""
    instructions = list(struct.iter_unpack("<HBBI", program))
    data = struct.pack("<IIQ6Q", number, X86_64_ARCH, 0, *[0] * 6)
    at, accumulator, count = 0, 0, 0
    while True:
        code, if_true, if_false, value = instructions[at]
        at, count = at + 1, count + 1
        if code == 0x20:
            (accumulator,) = struct.unpack_from("<I", data, value)
        elif code == 0x54:
            accumulator &= value
        elif code == 0x05:
            at += value
        elif code == 0x06:
            return count
        else:
            hit = {0x15: accumulator == value, 0x35: accumulator >= value,
                   0x45: bool(accumulator & value)}[code]  # fmt: skip
            at += if_true if hit else if_false


# ---------------------------------------------------------------- the kernel agrees


DENIED = sorted(name for name in X86_64 if always(name))
CALL_THEM = """
import ctypes
libc = ctypes.CDLL(None, use_errno=True)
found = {}
for name, number in given["calls"].items():
    ctypes.set_errno(0)
    result = libc.syscall(number, *[ctypes.c_long(-1)] * 6)
    found[name] = ctypes.get_errno() if result == -1 else 0
say(found)
"""


def test_in_a_session_the_kernel_answers_as_the_filter_says(zygote: Zygote) -> None:
    with zygote.session(CALL_THEM, calls={name: X86_64[name] for name in DENIED}) as session:
        found: dict[str, Any] = session.hear()

    assert {name: errno.errorcode[n] for name, n in found.items()} == {
        name: always(name) for name in DENIED
    }


def test_without_the_filter_the_kernel_answers_otherwise() -> None:
    """The control. What is the same without is what capabilities stop, or is no call at all."""
    with Zygote(launchers()[0], left_out=("seccomp",)) as zygote:
        calls = {name: X86_64[name] for name in DENIED}
        with zygote.session(CALL_THEM, calls=calls) as session:
            found: dict[str, Any] = session.hear()
    other = {n for n, number in found.items() if errno.errorcode.get(number) != always(n)}

    # these are the ones that nothing else stops
    assert other >= {
        "add_key", "bpf", "clone3", "inotify_init1", "keyctl", "memfd_create", "msgget",
        "name_to_handle_at", "ptrace", "semget", "shmget", "process_vm_readv",
    }  # fmt: skip


def test_the_tables_name_every_call_that_they_number() -> None:
    """And nothing is in two groups, where the later one would win in silence."""
    named = [
        name
        for table in (seccomp.NOT_IMPLEMENTED, seccomp.NOT_PERMITTED)
        for group in table.values()
        for name in group.split()
    ]
    fenced = {*seccomp.SHARED_QUEUES.split(), *seccomp.OWN_FILES.split()}
    fenced |= {*seccomp.SERVING.split()}  # of who may use the network
    users = {*seccomp.OTHER_IDENTITIES, "setresuid", "setresgid"}
    used = {*named, *BY_ARGUMENT, *CHANGES, "setpriority", "ioprio_set", *fenced, *users}
    in_plans = {
        "write", "close", "chdir", "mkdir", "umask", "setsid", "capset", "prctl", "setrlimit",
        "openat", "seccomp", "symlink", "landlock_create_ruleset", "landlock_add_rule",
        "landlock_restrict_self", "rt_sigprocmask", "dup3",
    }  # fmt: skip
    unused = {"vfork", "execve", "execveat"} | in_plans

    assert len(named) == len(set(named))
    assert set(X86_64) - unused == used
    assert json.dumps(X86_64) == json.dumps(
        dict(sorted(X86_64.items(), key=lambda item: item[1]))
    )


@pytest.mark.parametrize("machine", ["aarch64", "riscv64"])
def test_a_processor_whose_calls_nobody_has_numbered_is_refused(
    machine: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(syscalls, "MACHINE", machine)
    with pytest.raises(LayerFailed, match=machine) as caught:
        seccomp.require_known_machine()

    assert caught.value.layer == "seccomp"


# ---------------------------------------------------------------- the other tiers


@given(st.tuples(*[words] * 6))
def test_without_a_network_namespace_there_are_no_sockets_but_pairs(
    arguments: tuple[int, ...],
) -> None:
    for program in (NO_NETWORK, *FENCED.values()):
        assert action(program, X86_64["socket"], *arguments) == "EAFNOSUPPORT"
        assert action(program, X86_64["socketpair"], 1) == "allow"


@given(st.sampled_from(sorted(NAMES)), st.tuples(*[words] * 6))
def test_a_lower_tier_denies_what_strict_denies(
    number: int, arguments: tuple[int, ...]
) -> None:
    if action(SESSION, number, *arguments) == "allow":
        return
    for program in (NO_NETWORK, *FENCED.values()):
        assert action(program, number, *arguments) != "allow"


@pytest.mark.parametrize("tier", tiers.FENCED)
@given(who=st.integers(1, 2**31 - 1))
def test_without_namespaces_nobody_changes_another_process(tier: str, who: int) -> None:
    program = FENCED[tier]  # type: ignore[index]
    for name in CHANGES:
        assert action(program, X86_64[name], who) == "EPERM"
        assert action(program, X86_64[name], 0) == "allow"
    for name, process in (("setpriority", 0), ("ioprio_set", 1)):
        assert action(program, X86_64[name], process, who) == "EPERM"
        assert action(program, X86_64[name], process + 1, 0) == "EPERM"
        assert action(program, X86_64[name], process, 0) == "allow"
    for name in seccomp.SHARED_QUEUES.split():
        assert action(program, X86_64[name], who) == "ENOSYS"


def test_modes_and_times_are_denied_where_files_of_the_host_have_the_same_owner() -> None:
    for name in seccomp.OWN_FILES.split():
        assert action(FENCED["landlock"], X86_64[name]) == "EPERM"
        assert action(FENCED["uid"], X86_64[name]) == "allow"


@given(st.tuples(*[words] * 3))
def test_a_zygote_with_the_power_to_change_its_user_stays_in_its_block(
    wanted: tuple[int, int, int],
) -> None:
    """Any of the three may be root's, or another worker's."""
    first = 20 * UIDS
    program = program_of(seccomp.zygote_filter(Ground(Grade("uid"), first_uid=first)))
    mine = all(first <= word & 0xFFFFFFFF < first + UIDS for word in wanted)

    for name in ("setresuid", "setresgid"):
        assert action(program, X86_64[name], *wanted) == ("allow" if mine else "EPERM")
        assert action(program, X86_64[name], first, first + 5, first + UIDS - 1) == "allow"
        assert action(program, X86_64[name], first, 0, first) == "EPERM"
    for name in seccomp.OTHER_IDENTITIES:
        assert action(program, X86_64[name], first) == "EPERM"
