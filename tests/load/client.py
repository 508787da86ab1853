"""A client that keeps its own books: raw sockets, so that it knows every byte that it sent and received.

Usage: client.py HOST PORT PLAN, where PLAN is a file with a JSON list of connections, each a list of steps
  {"method", "target", "body", "chunk", "repeat", "pipeline", "close", "expect", "split", "header"}
Prints a JSON list of {"method", "target", "status", "sent", "received", "request_body", "response_body", "count"}.
Not a test by itself: the tests compare what it prints.
"""

import json
import socket
import sys
import threading


class Reader:
    def __init__(self, sock):
        self.sock, self.buffer, self.taken = sock, b"", 0

    def more(self):
        data = self.sock.recv(1 << 16)
        if not data:
            raise EOFError
        self.buffer += data

    def line(self):
        while b"\n" not in self.buffer:
            self.more()
        line, self.buffer = self.buffer.split(b"\n", 1)
        self.taken += len(line) + 1
        return line.rstrip(b"\r")

    def skip(self, count):
        while len(self.buffer) < count:
            count -= len(self.buffer)
            self.taken += len(self.buffer)
            self.buffer = b""
            self.more()
        self.buffer = self.buffer[count:]
        self.taken += count

    def to_end(self):
        size = 0
        while True:
            size += len(self.buffer)
            self.taken += len(self.buffer)
            self.buffer = b""
            try:
                self.more()
            except EOFError:
                return size


def head(reader):
    status = int(reader.line().split(b" ")[1])
    fields = {}
    while True:
        line = reader.line()
        if not line:
            return status, fields
        name, value = line.split(b":", 1)
        fields[name.strip().lower()] = value.strip()


def answer(reader, method):
    """Reads one answer, interim ones in front of it included; gives status and decoded body size."""
    status, fields = head(reader)
    while 100 <= status < 200 and status != 101:
        status, fields = head(reader)
    size = 0
    if method == "HEAD" or status in (204, 304):
        pass
    elif fields.get(b"transfer-encoding", b"").lower() == b"chunked":
        while True:
            chunk = int(reader.line().split(b";")[0], 16)
            if chunk == 0:
                while reader.line():
                    pass
                break
            size += chunk
            reader.skip(chunk + 2)
    elif b"content-length" in fields:
        size = int(fields[b"content-length"])
        reader.skip(size)
    else:
        size = reader.to_end()
    return status, size


def message(step, host):
    """The request's head and the pieces of its body as they go on the wire, and the decoded size of the body."""
    size, chunk = step.get("body", 0), step.get("chunk", 0)
    fields = ["Host: " + ("[%s]" % host if ":" in host else host)] + step.get("header", [])
    if step.get("close"):
        fields.append("Connection: close")
    if step.get("expect"):
        fields.append("Expect: 100-continue")
    pieces = []
    if chunk:
        fields.append("Transfer-Encoding: chunked")
        left = size
        while left:
            now = min(left, chunk)
            pieces.append(b"%x\r\n" % now + b"c" * now + b"\r\n")
            left -= now
        pieces.append(b"0\r\n\r\n")
    elif size:
        fields.append("Content-Length: %d" % size)
        pieces.append(b"b" * size)
    start = "%s %s HTTP/1.1" % (step["method"], step["target"])
    return "\r\n".join([start] + fields + ["", ""]).encode(), pieces, size


def play(host, port, steps, books, lock):
    sock = None
    for step in steps:
        for _ in range(step.get("repeat", 1)):
            if sock is None:
                family = socket.AF_INET6 if ":" in host else socket.AF_INET
                sock = socket.socket(family, socket.SOCK_STREAM)
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                sock.connect((host, port))
                reader = Reader(sock)
            start, pieces, size = message(step, host)
            together = step.get("pipeline", 1)
            whole = start + (b"" if step.get("expect") else b"".join(pieces))
            out = whole * together
            if step.get("split"):
                for at in range(0, len(out), step["split"]):
                    sock.sendall(out[at : at + step["split"]])
            else:
                sock.sendall(out)
            for _ in range(together):
                before = reader.taken
                sent = len(whole)
                if step.get("expect"):
                    while b"\n\r\n" not in reader.buffer and b"\r\n\r\n" not in reader.buffer:
                        reader.more()
                    sock.sendall(b"".join(pieces))
                    sent += sum(map(len, pieces))
                status, body = answer(reader, step["method"])
                key = (step["method"], step["target"], status)
                with lock:
                    book = books.setdefault(key, [0] * 5)
                    for i, value in enumerate((1, sent, reader.taken - before, size, body)):
                        book[i] += value
            if step.get("close"):
                sock.close()
                sock = None
    if sock is not None:
        sock.close()


def main():
    host, port, plan = sys.argv[1], int(sys.argv[2]), json.load(open(sys.argv[3]))
    books, lock, failed = {}, threading.Lock(), []

    def guarded(steps):
        try:
            play(host, port, steps, books, lock)
        except BaseException as error:  # a thread's error must not look like success
            failed.append(repr(error))

    threads = [threading.Thread(target=guarded, args=(steps,)) for steps in plan]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failed:
        sys.exit("\n".join(failed))
    names = ("count", "sent", "received", "request_body", "response_body")
    json.dump(
        [dict(zip(names, book), method=m, target=t, status=str(s)) for (m, t, s), book in sorted(books.items())],
        sys.stdout,
    )


main()
