"""A service in Python that pushes CPU and memory profiles with Pyroscope's SDK.

    work.py http://127.0.0.1:4040 SERVICE

Works in rounds of known names until it has used two seconds of CPU time, sends what it has and prints
"pushed" and the CPU seconds of the process, by getrusage.
"""

import resource
import sys

import pyroscope

kept = []


def burn(rounds):
    x = 88172645463325252
    for _ in range(rounds):
        x ^= (x << 13) & 0xFFFFFFFFFFFFFFFF
        x ^= x >> 7
        x ^= (x << 17) & 0xFFFFFFFFFFFFFFFF
    return x


def burn_twice(rounds):
    return burn(2 * rounds)


def burn_once(rounds):
    return burn(rounds)


def allocate_mebibytes():
    bytearray(4 << 20)  # freed at once
    if len(kept) < 8:
        kept.append(bytearray(4 << 20))


def cpu_seconds():
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def main(server, service):
    pyroscope.configure(
        application_name=service,
        server_address=server,
        tags={"zone": "north", "app.kubernetes.io": "shop"},
        upload_interval=1,
        mem_enabled=True,
    )
    while cpu_seconds() < 2:
        with pyroscope.tag_wrapper({"route": "/twice"}):
            burn_twice(20_000)
        with pyroscope.tag_wrapper({"route": "/once"}):
            burn_once(20_000)
        allocate_mebibytes()
    pyroscope.shutdown()
    print("pushed", cpu_seconds(), flush=True)


main(sys.argv[1], sys.argv[2])
