"""What a zygote has its first session do, before it says that it can build any."""

from __future__ import annotations

import os
import signal
import sys


def run(descriptors: list[int]) -> None:
    """Try threads, signals, fork and exec in a cloned child; say "ok"."""
    import subprocess  # here: a zygote pays for what it holds
    import threading

    try:
        thread = threading.Thread(target=lambda: None)
        thread.start()
        thread.join()
        signal.pthread_kill(threading.main_thread().ident or 0, 0)
        child = os.fork()
        if child == 0:
            os._exit(0)
        os.waitpid(child, 0)
        subprocess.run([sys.executable, "-I", "-S", "-c", ""], check=True)
        word = b"ok"
    except Exception as error:
        word = f"{type(error).__name__}: {error}".encode()
    os.write(descriptors[0], word)
