"""``python -I -S _measure.py OUTPUT COMMAND...``: run it, print its wall, CPU (seconds), peak RSS (MB), exit code.

A process of its own, and small: the kernel counts what a program's starter holds as the program's own peak.
"""

import os
import sys
import time

output, *command = sys.argv[1:]
null = (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0)
written = (os.POSIX_SPAWN_OPEN, 1, output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
started = time.perf_counter()
pid = os.posix_spawn(command[0], command, os.environ, file_actions=[null, written, (os.POSIX_SPAWN_DUP2, 1, 2)])
_, status, usage = os.wait4(pid, 0)
wall = time.perf_counter() - started
print(wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024, os.waitstatus_to_exitcode(status))
