"""Two sessions of one zygote: neither finds, hurts or starves the other."""

from __future__ import annotations

import array
import os
import secrets
import socket

import pytest

from envhub_sandbox import Launcher
from tests.sandbox.alone import Zygote, launchers

HOLDER = """
import os
secret = given["secret"]
os.environ["SECRET"] = secret
open("/workspace/secret", "w").write(secret)
say(os.getpid())
while (word := hear()) != "end":
    say(secret)
"""
# reads all memory that it can of every process it sees, its own among them
HUNT = """
import os, re
def memory(process):
    found = b""
    try:
        for line in open(f"/proc/{process}/maps").readlines():
            start, end = (int(part, 16) for part in line.split()[0].split("-"))
            if " rw" in line:
                with open(f"/proc/{process}/mem", "rb") as file:
                    file.seek(start)
                    found += file.read(end - start)
    except OSError:
        pass
    return found
halves = given["halves"]
wanted = (halves[0] + halves[1]).encode()
processes = [name for name in os.listdir("/proc") if name.isdigit()]
say([name for name in processes if len(re.findall(wanted, memory(name))) > given["own"]])
"""


def test_a_secret_in_one_session_is_not_in_another(zygote: Zygote) -> None:
    secret = secrets.token_hex(16)
    with zygote.session(HOLDER, secret=secret) as holder:
        assert holder.hear() == 1

        # one copy that the hunter makes itself, to look for
        halves = {"halves": [secret[:16], secret[16:]], "own": 2}
        with zygote.session(HUNT, **halves) as hunter:
            found = hunter.hear()

        assert found == []


def test_the_hunt_finds_what_is_there(zygote: Zygote) -> None:
    """The control: the same hunt, by a child of the process that holds the secret."""
    secret = secrets.token_hex(16)
    holds_more = "import os\nkept = [given['secret'] + str(i) for i in range(10)]\n"
    with zygote.session(
        f"{holds_more}{HUNT}", secret=secret, halves=[secret[:16], secret[16:]], own=2
    ) as both:
        assert both.hear() == ["1"]


@pytest.mark.parametrize("code", ["os.kill({pid}, 9)", "os.kill({pid}, 0)", "os.kill(-1, 9)"])
def test_a_session_cannot_signal_another(zygote: Zygote, code: str) -> None:
    with zygote.session(HOLDER, secret="s") as holder:
        holder.hear()
        ended = zygote.run("import os\n" + code.format(pid=holder.pid))
        holder.say("still there?")

        assert "ProcessLookupError" in str(ended)
        assert holder.hear() == "s"


LISTENER = """
import socket
server = socket.socket(socket.AF_UNIX)
server.bind("\\0" + given["name"])
server.listen()
say("listening")
hear()
"""
CALLER = """
import socket
socket.socket(socket.AF_UNIX).connect("\\0" + given["name"])
"""


@pytest.mark.parametrize(
    ("left_out", "meets"),
    [
        ((), "ConnectionRefusedError"),  # another network namespace
        (("network namespace",), "PermissionError"),  # Landlock's scope
    ],
)
def test_abstract_sockets_do_not_reach_another_session(
    left_out: tuple[str, ...], meets: str
) -> None:
    name = secrets.token_hex(16)
    with Zygote(launchers()[-1], left_out=left_out) as zygote:
        with zygote.session(LISTENER, name=name) as listener:
            listener.hear()
            ended = zygote.run(CALLER, name=name)

    assert not ended.worked
    assert meets in str(ended)


def test_without_both_layers_an_abstract_socket_would_reach_another_session() -> None:
    """The control of the one above."""
    name = secrets.token_hex(16)
    left_out = ("network namespace", "landlock")
    with Zygote(launchers()[-1], left_out=left_out) as zygote:
        with zygote.session(LISTENER, name=name) as listener:
            listener.hear()

            assert zygote.run(CALLER, name=name).worked


LEAVE = """
import os
for folder in ("/tmp", "/dev/shm", "/workspace"):
    open(folder + "/left", "w").write("left")
"""
FIND = """
import os
found = [os.path.join(at, "left") for at, _, names in os.walk("/")
         if not at.startswith("/proc") and "left" in names]
say(found)
"""


def test_files_are_gone_with_their_session(zygote: Zygote) -> None:
    left = zygote.run(LEAVE)
    with zygote.session(FIND) as later:
        found = later.hear()

    assert left.worked
    assert found == []


def test_a_file_that_was_written_at_import_is_in_no_session(launcher: Launcher) -> None:
    """The folder that libraries may write to then is the zygote's; each covers it."""
    with Zygote(launcher, prepare="open('/tmp/left', 'w').write('left')") as zygote:
        with zygote.session(FIND) as session:
            found = session.hear()
        written = zygote.run(LEAVE).worked  # to a folder of its own, with nothing in it

    assert found == []
    assert written


def test_files_of_a_live_session_are_nowhere_in_another(zygote: Zygote) -> None:
    """With the control: the search finds them where they are."""
    with zygote.session(f"{LEAVE}say('left')\n{FIND}hear()") as first:
        first.hear()
        own = first.hear()
        with zygote.session(FIND) as second:
            found = second.hear()

    assert sorted(own) == ["/dev/shm/left", "/tmp/left", "/workspace/left"]
    assert found == []


def test_what_is_left_in_a_writable_root_is_found_by_the_next_session(
    launcher: Launcher,
) -> None:
    """Why the root is made read-only: bubblewrap's own is not, and all sessions share it."""
    left_out = ("read-only root", "landlock")
    with Zygote(launcher, left_out=left_out) as zygote:
        assert zygote.run("open('/left', 'w')").worked
        with zygote.session(FIND) as later:
            assert later.hear() == ["/left"]


BOMB = """
import os, signal
children = []
try:
    while True:
        children.append(os.fork())
        if not children[-1]: signal.pause()
except BlockingIOError:
    say(len(children))
hear()
"""


def test_a_session_full_of_processes_leaves_its_neighbour_all_of_its_own(
    zygote: Zygote,
) -> None:
    """Processes are counted in a session's own user namespace, not for the host's user."""
    with zygote.session(BOMB) as first, zygote.session(BOMB) as second:
        counts = first.hear(), second.hear()
        after = zygote.run("import os\nif not os.fork(): os._exit(0)\nos.wait()")

    assert counts == (15, 15)
    assert after.worked


def test_random_numbers_differ_between_sessions(zygote: Zygote) -> None:
    code = "import os, random\nsay([random.random(), os.urandom(8).hex()])"
    with zygote.session(code) as first, zygote.session(code) as second:
        numbers = [*first.hear(), *second.hear()]

    assert len(set(numbers)) == 4


SEND = """
import os, socket
for _ in range(5):
    socket.send_fds(owner, [b'"sent"\\n'], [os.open("/dev/null", 0)] * 3)
hear()
"""


def test_descriptors_sent_to_an_owner_who_only_reads_never_arrive(zygote: Zygote) -> None:
    """The owner uses recv and never recvmsg, so that a session cannot fill its table."""
    with zygote.session(SEND) as sender:
        before = len(os.listdir("/proc/self/fd"))
        words = [sender.hear() for _ in range(5)]
        after = len(os.listdir("/proc/self/fd"))

    assert words == ["sent"] * 5
    assert after == before


def test_descriptors_sent_to_an_owner_who_asks_for_them_do_arrive(zygote: Zygote) -> None:
    """The control of the one above."""
    with zygote.session(SEND) as sender:
        space = socket.CMSG_SPACE(3 * array.array("i").itemsize)
        _, ancillary, _, _ = sender.channel.recvmsg(64, space)
        got = array.array("i", ancillary[0][2])
        for descriptor in got:
            os.close(descriptor)

    assert len(got) == 3


def test_a_session_holds_its_own_descriptors_and_no_others(zygote: Zygote) -> None:
    """0 is /dev/null, 1 and 2 the output, 3 the channel, 4 the output once more."""
    code = """
import os
kinds = {}
for name in os.listdir("/proc/self/fd"):
    try: kinds[name] = os.readlink(f"/proc/self/fd/{name}").partition(":")[0]
    except FileNotFoundError: pass  # the listing's own
say(kinds)
"""
    with zygote.session(code) as session:
        kinds = session.hear()

    assert kinds == {"0": "/dev/null", "1": "pipe", "2": "pipe", "3": "socket", "4": "pipe"}


def test_a_zygote_holds_its_own_descriptors_and_no_others(launcher: Launcher) -> None:
    """Neither the spec nor bubblewrap's arguments, which hold the environment variables."""
    list_them = """
import os
for name in sorted(os.listdir("/proc/self/fd")):
    try: print(os.readlink(f"/proc/self/fd/{name}").partition(":")[0], flush=True)
    except FileNotFoundError: pass
"""
    with Zygote(launcher, prepare=list_them) as zygote:
        kinds = sorted(zygote.output().split())

    assert kinds == ["/dev/null", "pipe", "pipe", "socket"]
