"""A path between two network namespaces that loses, repeats and reorders packets, for kernels without netem.

A TUN device in each namespace, and in between this program, which passes packets on: arguments are the two namespaces, the
seed of its dice and the seconds after which it ends by itself. Says `ready` when both devices are there.
"""

import ctypes
import fcntl
import heapq
import os
import random
import select
import struct
import sys
import time

CLONE_NEWNET = 0x40000000
TUNSETIFF = 0x400454CA
IFF_TUN_WITHOUT_HEADER = 0x1001
LOST, REPEATED, AT_ONCE = 0.03, 0.02, 0.25


def device(namespace, name):
    handle = os.open(f"/run/netns/{namespace}", os.O_RDONLY)
    if ctypes.CDLL(None, use_errno=True).setns(handle, CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), f"cannot enter {namespace}")
    os.close(handle)
    tun = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(tun, TUNSETIFF, struct.pack("16sH", name.encode(), IFF_TUN_WITHOUT_HEADER))
    return tun


def main():
    here, there, seed, seconds = sys.argv[1:]
    dice = random.Random(int(seed))
    ends = [device(here, "path"), device(there, "path")]
    print("ready", flush=True)
    waiting, number = [], 0
    last = time.monotonic() + float(seconds)
    while time.monotonic() < last:
        pause = max(0.0, waiting[0][0] - time.monotonic()) if waiting else 0.2
        for end in select.select(ends, [], [], pause)[0]:
            packet = os.read(end, 65536)
            if dice.random() < LOST:
                continue
            for _ in range(2 if dice.random() < REPEATED else 1):
                delay = 0.0 if dice.random() < AT_ONCE else dice.uniform(0.001, 0.003)
                number += 1
                heapq.heappush(waiting, (time.monotonic() + delay, number, ends[1 - ends.index(end)], packet))
        while waiting and waiting[0][0] <= time.monotonic():
            _, _, end, packet = heapq.heappop(waiting)
            try:
                os.write(end, packet)
            except OSError:
                pass  # The device is not up yet.


main()
