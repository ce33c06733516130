# SPDX-License-Identifier: BSD-3-Clause
"""A client of the NBD protocol that can stop in the middle, or say what no client would. Numbers and layouts are those of
https://github.com/NetworkBlockDevice/nbd/blob/master/doc/proto.md"""
import socket
import struct

OPTION_MAGIC = b"IHAVEOPT"
REQUEST_MAGIC = 0x25609513
OPT_EXPORT_NAME, OPT_ABORT, OPT_LIST, OPT_INFO, OPT_GO, OPT_STRUCTURED, OPT_META = 1, 2, 3, 6, 7, 8, 10
READ, WRITE, DISC, FLUSH, TRIM, CACHE, ZEROES, STATUS = range(8)
FIXED_NO_ZEROES = 3
REP_ERROR = 1 << 31


class Closed(Exception):
    pass


class Raw:
    def __init__(self, lab, address=None, timeout=10):
        """By the Unix socket, or by TCP from that address."""
        if address is None:
            self.s = socket.socket(socket.AF_UNIX)
            self.s.settimeout(timeout)
            self.s.connect(lab.socket)
        else:
            self.s = socket.create_connection(("127.0.0.1", lab.port), timeout, source_address=(address, 0))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self, reset=False):
        if reset:
            self.s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.s.close()

    def receive(self, count):
        data = b""
        while len(data) < count:
            part = self.s.recv(count - len(data))
            if not part:
                raise Closed()
            data += part
        return data

    # ---- haggling ----

    def greet(self):
        assert self.receive(18)[:16] == b"NBDMAGICIHAVEOPT"
        self.s.sendall(struct.pack(">I", FIXED_NO_ZEROES))

    @staticmethod
    def option(option, data=b"", length=None):
        return OPTION_MAGIC + struct.pack(">II", option, len(data) if length is None else length) + data

    @staticmethod
    def named(export):
        """What INFO and GO ask: a name, and no more."""
        name = export.encode() if isinstance(export, str) else export
        return struct.pack(">I", len(name)) + name + struct.pack(">H", 0)

    def haggle(self, option, data=b""):
        """Sends an option; its replies up to the last one: [(type, data)]."""
        self.s.sendall(self.option(option, data))
        replies = []
        while not replies or replies[-1][0] in (2, 3, 4):  # SERVER, INFO, META_CONTEXT
            _, _, kind, length = struct.unpack(">QIII", self.receive(20))
            replies.append((kind, self.receive(length)))
        return replies

    def info(self, export, option=OPT_INFO):
        """The size; None where it is refused."""
        replies = self.haggle(option, self.named(export))
        if replies[-1][0] & REP_ERROR:
            return None
        return next(struct.unpack(">HQ", data[:10])[1] for _, data in replies if data[:2] == b"\0\0")

    def go(self, export):
        self.greet()
        return self.info(export, OPT_GO)

    # ---- requests ----

    @staticmethod
    def request(kind, offset=0, length=0, handle=1, flags=0):
        return struct.pack(">IHHQQI", REQUEST_MAGIC, flags, kind, handle, offset, length)

    def simple_reply(self, length=0):
        """The error, and what was read."""
        magic, error, _ = struct.unpack(">IIQ", self.receive(16))
        assert magic == 0x67446698, hex(magic)
        return error, b"" if error else self.receive(length)

    def ask(self, kind, offset=0, length=0, data=b"", flags=0):
        self.s.sendall(self.request(kind, offset, length, flags=flags) + data)
        return self.simple_reply(length if kind == READ else 0)

    def never_read(self, request):
        """Sends that request until nobody takes it any more."""
        self.s.setblocking(False)
        try:
            while True:
                self.s.send(request)
        except BlockingIOError:
            pass
