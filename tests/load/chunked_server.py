"""Python's http.server as an observed service with chunked answers: GET /chunked/SIZE/CHUNK, GET /closed/SIZE (an
HTTP/1.0 answer that ends with the connection), POST anything is answered 200 with 256 bytes.

Usage: chunked_server.py PORT. Prints "ready" when it listens.
"""

import http.server
import socket
import sys


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_GET(self):
        parts = self.path.strip("/").split("/")
        if parts[0] == "chunked":
            size, chunk = int(parts[1]), int(parts[2])
            self.send_response(200)
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            while size:
                now = min(size, chunk)
                self.wfile.write(b"%X;note=x\r\n" % now + b"p" * now + b"\r\n")
                size -= now
            self.wfile.write(b"0\r\nTrailer: yes\r\n\r\n")
        elif parts[0] == "closed":
            self.protocol_version = "HTTP/1.0"
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"e" * int(parts[1]))
            self.close_connection = True
        elif parts[0] == "upgrade":
            self.wfile.write(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: echo\r\nConnection: Upgrade\r\n\r\n")
            while True:
                data = self.connection.recv(65536)
                if not data:
                    break
                self.connection.sendall(data)
            self.close_connection = True
        elif parts[0] == "early":
            self.send_response(413)
            self.send_header("Content-Length", "5")
            self.send_header("Connection", "close")
            self.end_headers()
            self.wfile.write(b"large")
            self.close_connection = True
        else:
            self.send_response(404)
            self.send_header("Content-Length", "0")
            self.end_headers()

    do_HEAD = do_GET

    def do_POST(self):
        if self.path == "/early":
            return self.do_GET()
        if self.headers.get("Transfer-Encoding", "") == "chunked":
            while True:
                size = int(self.rfile.readline().split(b";")[0], 16)
                self.rfile.read(size + 2)
                if size == 0:
                    break
        else:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.send_response(200)
        self.send_header("Content-Length", "256")
        self.end_headers()
        self.wfile.write(b"a" * 256)

    def log_message(self, *_):
        pass


class Server(http.server.ThreadingHTTPServer):
    # Dual-stack: IPv4 clients come as v4-mapped addresses of an IPv6 socket.
    address_family = socket.AF_INET6
    request_queue_size = 128


server = Server(("::", int(sys.argv[1])), Handler)
print("ready", flush=True)
server.serve_forever()
