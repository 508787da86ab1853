"""Serves one HTTP exchange on a socket that another process made: reads a head with its body, answers with 256 bytes, and
waits for the end.

Usage: inherited.py listener|connection|passed, where standard input is a listener to accept from, a connection, or a unix
socket through which a connection comes. Prints the bytes that it received and sent.
"""

import socket
import sys

given = socket.socket(fileno=0)
if sys.argv[1] == "listener":
    connection, _ = given.accept()
elif sys.argv[1] == "passed":
    _, descriptors, _, _ = socket.recv_fds(given, 1, 1)
    connection = socket.socket(fileno=descriptors[0])
else:
    connection = given
data = b""
while b"\r\n\r\n" not in data:
    data += connection.recv(65536)
head = data[: data.index(b"\r\n\r\n") + 4]
length = [int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")]
received = len(data)
while received < len(head) + sum(length):
    received += len(connection.recv(65536))
answer = b"HTTP/1.1 200 OK\r\nContent-Length: 256\r\n\r\n" + b"i" * 256
connection.sendall(answer)
while more := connection.recv(65536):
    received += len(more)
print(received, len(answer))
