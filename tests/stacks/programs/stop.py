# Run by gdb on a process that it is attached to: stops it at random instants and prints, for each, the
# registers, the stack and what gdb makes of it; waits for a line before it goes on.
import json
import os
import random
import signal
import sys
import time

import gdb

REGISTERS = "rax rbx rcx rdx rsi rdi rbp rsp rip r8 r9 r10 r11 r12 r13 r14 r15".split()
STACK = 65528
PAGE = 4096
COUNT = int(os.environ["STOPS"])
random.seed(int(os.environ["SEED"]))

for command in ("set pagination off", "set language c", "set confirm off", "set backtrace past-main on",
                "set backtrace limit 600", "handle SIGUSR2 stop print nopass",
                "handle SIGUSR1 nostop pass noprint", "handle SIGURG nostop pass noprint"):
    gdb.execute(command, to_string=True)

inferior = gdb.selected_inferior()


def interrupt(after):
    """In a process of its own: a thread would not run while gdb waits."""
    child = os.fork()
    if child == 0:
        time.sleep(after)
        os.kill(inferior.pid, signal.SIGUSR2)
        os._exit(0)
    return child


def stack(pointer):
    read = b""
    while len(read) < STACK:
        end = min(STACK - len(read), PAGE - (pointer + len(read)) % PAGE)
        try:
            read += bytes(inferior.read_memory(pointer + len(read), end))
        except gdb.error:
            break
    return read


def chain(registers):
    """What the kernel finds along frame pointers: it stops at what is not above or cannot be read."""
    found, pointer = [registers[8]], registers[6]
    while len(found) < 127 and pointer >= 4096:
        try:
            pair = bytes(inferior.read_memory(pointer, 16))
        except gdb.error:
            break
        found.append(int.from_bytes(pair[8:], "little"))
        pointer = int.from_bytes(pair[:8], "little")
    return found


def frames():
    found, why = [], ""
    try:
        frame = gdb.newest_frame()
        while frame is not None:
            if frame.type() not in (gdb.INLINE_FRAME, gdb.TAILCALL_FRAME):
                found.append(frame.pc())
            why = gdb.frame_stop_reason_string(frame.unwind_stop_reason())
            frame = frame.older()
    except gdb.error as error:
        why = str(error)
    return found, why


for _ in range(COUNT):
    child = interrupt(random.uniform(0.001, 0.02))
    try:
        gdb.execute("continue", to_string=True)
    except gdb.error:
        break
    finally:
        try:
            os.waitpid(child, 0)
        except ChildProcessError:
            pass  # gdb has waited for it
    if inferior.pid == 0 or not inferior.threads():
        break
    read = lambda name: int(gdb.parse_and_eval("(unsigned long)$" + name)) & (2**64 - 1)
    registers = [read(name) for name in REGISTERS]
    pcs, why = frames()
    print("@" + json.dumps({"registers": registers, "frames": pcs, "why": why,
                            "chain": chain(registers), "stack": stack(registers[7]).hex()}), flush=True)
    if not sys.stdin.readline():
        break
gdb.execute("kill", to_string=True)
