"""A name server on loopback, over UDP and TCP, that knows a few records and fails on demand."""

import ipaddress
import struct
import threading

from . import sockets

TYPES = {"A": 1, "CNAME": 5, "TXT": 16, "AAAA": 28}
SOA = 6
TTL = 60
# What an answer over UDP may have without EDNS, and with it.
PLAIN, EDNS = 512, 1232


def name(text):
    """A name on the wire."""
    labels = [label for label in text.rstrip(".").split(".") if label]
    return b"".join(bytes([len(label)]) + label.encode() for label in labels) + b"\0"


def record(owner, kind, data):
    """One resource record."""
    return name(owner) + struct.pack("!HHIH", kind, 1, TTL, len(data)) + data


def data_of(kind, value):
    """What a record of this type holds."""
    if kind == "TXT":
        strings = [value[at:at + 255] for at in range(0, len(value), 255)] or [""] if isinstance(value, str) else value
        return b"".join(bytes([len(text.encode())]) + text.encode() for text in strings)
    if kind == "CNAME":
        return name(value)
    return ipaddress.ip_address(value).packed


class Zone:
    """`records`: {name: {"TXT": [text or strings…], "A": […], "AAAA": […], "CNAME": name, "fault": "servfail" or "silence"}}.

    `fault_of` holds faults by type. A name that is not there does not exist. Chains of aliases are given whole, as a
    recursive resolver gives them.
    """

    def __init__(self, records):
        self.records = {owner.lower(): data for owner, data in records.items()}
        self.udp, self.tcp = sockets.pair()
        self.tcp.listen(16)
        self.address = "127.0.0.1:%d" % self.udp.getsockname()[1]
        for work in (self.serve_udp, self.serve_tcp):
            threading.Thread(target=work, daemon=True).start()

    def close(self):
        """Ends it."""
        sockets.end(self.udp, self.tcp)

    def serve_udp(self):
        while True:
            try:
                asked, peer = self.udp.recvfrom(4096)
            except OSError:
                return
            if peer is None:
                # It was ended.
                return
            answer = self.answer(asked, EDNS if asked[10:12] != b"\0\0" else PLAIN)
            if answer:
                try:
                    self.udp.sendto(answer, peer)
                except OSError:
                    return

    def serve_tcp(self):
        while True:
            try:
                peer, _ = self.tcp.accept()
            except OSError:
                return
            threading.Thread(target=self.converse, args=(peer,), daemon=True).start()

    def converse(self, peer):
        with peer:
            peer.settimeout(10)
            try:
                stream = peer.makefile("rb")
                while True:
                    length = stream.read(2)
                    if len(length) < 2:
                        return
                    answer = self.answer(stream.read(struct.unpack("!H", length)[0]), 65535)
                    if answer:
                        peer.sendall(struct.pack("!H", len(answer)) + answer)
            except OSError:
                return

    def answer(self, asked, room):
        """The answer to a query; None where there is none."""
        labels, at = [], 12
        try:
            while asked[at]:
                labels.append(asked[at + 1:at + 1 + asked[at]].decode("ascii", "replace"))
                at += 1 + asked[at]
            kind, = struct.unpack_from("!H", asked, at + 1)
        except (IndexError, struct.error):
            return None
        owner, query = ".".join(labels).lower(), asked[12:at + 5]
        code, records = self.find(owner, kind)
        if code is None:
            return None
        absent = [] if records or code == 2 else [
            record("", SOA, name("") + name("") + struct.pack("!IIIII", 1, 3600, 600, 86400, TTL))]
        flags = 0x8480 | (asked[2] & 1) << 8 | code
        head = struct.pack("!HHHHH", flags, 1, len(records), len(absent), 0)
        whole = asked[:2] + head + query + b"".join(records + absent)
        if len(whole) > room:
            return asked[:2] + struct.pack("!HHHHH", flags | 0x0200, 1, 0, 0, 0) + query
        return whole

    def find(self, owner, kind):
        """The response code, None for silence, and the records."""
        records, seen = [], set()
        while True:
            data = self.records.get(owner)
            if data is None:
                return (3 if not records else 0), records
            word = next((word for word, number in TYPES.items() if number == kind), None)
            fault = data.get("fault") or data.get("fault_of", {}).get(word)
            if fault:
                return (2, []) if fault == "servfail" else (None, [])
            if "CNAME" in data and word != "CNAME":
                if owner in seen:
                    return 0, records
                seen.add(owner)
                records.append(record(owner, TYPES["CNAME"], name(data["CNAME"])))
                owner = data["CNAME"].lower()
                continue
            values = data.get(word, [])
            values = [values] if isinstance(values, str) else values
            return 0, records + [record(owner, kind, data_of(word, value)) for value in values]
