"""Asks an Authentication Server what as.json, sessions.json and limit.json ask."""

import os
import socket
import ssl
import time

from . import lines

# How long a reply, or the end of a connection, is waited for, and how often a datagram is sent again.
PATIENCE = 20
TRIES = 4


class NoAnswer(Exception):
    """The server does not answer at all: nothing can be told."""


def octets(vector):
    """What a vector sends."""
    return bytes.fromhex(vector["send_hex"]) if "send_hex" in vector else vector["send"].encode()


def differs(expected, line, most):
    """What is wrong with a reply."""
    if not line:
        return ["there is no reply" if line is None else "nothing comes"]
    if len(line) > most:
        return ["the reply has %d octets, and at most %d are allowed" % (len(line), most)]
    read = lines.read_reply(line)
    if read is None:
        return ["the reply is outside the grammar"]
    seq, address, status, tags = read
    wrong = []
    for what, wanted, got in [("seq", expected["seq"].encode(), seq), ("the address", expected["address"].encode(), address),
                              ("the status", expected["status"].encode(), status)]:
        if wanted != got:
            wrong.append("%s differs" % what)
    if tags.get(b"v", b"1") != b"1":
        wrong.append("v= is not 1")
    reason = tags.get(b"e")
    if (reason.decode() if reason is not None else None) != expected["e"]:
        wrong.append("e= differs")
    if "t" in expected:
        told, wanted = tags.get(b"t"), expected["t"]
        if wanted is None:
            if told is not None:
                wrong.append("t= stands where it does not fit")
        elif told is None or not told.isdigit() or not wanted[0] <= int(told) <= wanted[1]:
            wrong.append("t= is not between %d and %d" % tuple(wanted))
    elif b"t" in tags:
        wrong.append("t= stands without VALIDKEY")
    return wrong


class Authority:
    """The server under test, and a key of the table by which it can be probed."""

    def __init__(self, table, udp, tls, ca, host):
        self.udp, self.tls, self.ca, self.host = udp, tls, ca, host
        key = table["keys"][0]
        self.address, self.key = key["address"], key["key"]
        self.sockets = []

    # --- UDP

    def connect_udp(self):
        family = socket.getaddrinfo(*self.udp, type=socket.SOCK_DGRAM)[0]
        door = socket.socket(family[0], socket.SOCK_DGRAM)
        door.connect(family[4])
        door.settimeout(PATIENCE / TRIES)
        return door

    def probe(self):
        """A question that every server of this table answers VALIDKEY, and its seq."""
        seq = os.urandom(16).hex().encode()
        return lines.question(self.key, seq, self.address.encode()), seq

    def by_udp(self, send):
        """The replies to a datagram, whether there is to be one or not: what comes before the answer to a probe."""
        door = self.connect_udp()
        door.send(send)
        probe, seq = self.probe()
        got = []
        for _ in range(TRIES):
            door.send(probe)
            try:
                while True:
                    reply = door.recv(65535)
                    read = lines.read_reply(reply)
                    if read and read[0] == seq:
                        self.sockets.append((door, seq))
                        return got, door
                    got.append(reply)
            except socket.timeout:
                continue
            except ConnectionRefusedError as error:
                raise NoAnswer("no server on UDP: %s" % error) from error
        raise NoAnswer("the server does not answer this question over UDP: %r" % probe)

    def ask_udp(self, send, wanted):
        """The same, with patience for a reply that comes after the probe's."""
        got, door = self.by_udp(send)
        tries = TRIES if wanted else 0
        while len(got) == 0 and tries:
            tries -= 1
            try:
                got.append(door.recv(65535))
            except socket.timeout:
                # A datagram may be lost, so it is sent again.
                door.send(send)
        return got

    def surplus(self):
        """Replies that came to nobody, after all was asked."""
        time.sleep(0.5)
        late = []
        for door, seq in self.sockets:
            door.settimeout(0)
            try:
                while True:
                    reply = door.recv(65535)
                    read = lines.read_reply(reply)
                    if not read or read[0] != seq:
                        late.append(reply)
            except OSError:
                pass
            door.close()
        self.sockets = []
        return late

    # --- TLS

    def connect_tls(self, alpn=("addrauth/1",)):
        context = ssl.create_default_context(cafile=self.ca)
        # Python 3.13 asks of a private root what PKIX does not.
        context.verify_flags &= ~ssl.VERIFY_X509_STRICT
        if alpn:
            context.set_alpn_protocols(list(alpn))
        tcp = socket.create_connection(self.tls, timeout=PATIENCE)
        # As a verifier does: a line goes out at once.
        tcp.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return context.wrap_socket(tcp, server_hostname=self.host)

    @staticmethod
    def read_line(stream, held):
        """The next line and what follows it; None: the connection has ended; empty: nothing comes."""
        while b"\n" not in held:
            try:
                more = stream.recv(4096)
            except socket.timeout:
                return b"", held
            except (ConnectionError, ssl.SSLError):
                more = b""
            if not more:
                return None, held
            held += more
        line, _, held = held.partition(b"\n")
        return line + b"\n", held

    def ask_tls(self, send):
        """The first line that comes back; None where the connection ends."""
        with self.connect_tls() as stream:
            try:
                stream.sendall(send)
            except (ConnectionError, ssl.SSLError):
                pass
            return self.read_line(stream, b"")[0]

    def session(self, vector):
        """The lines that come back, and whether the connection has ended."""
        probe, seq = self.probe()
        got, held = [], b""
        try:
            stream = self.connect_tls(vector.get("alpn", ["addrauth/1"]))
        except (ConnectionError, ssl.SSLError):
            return [], True
        with stream:
            try:
                for number, piece in enumerate(vector["send"]):
                    if number:
                        time.sleep(0.05)
                    stream.sendall(piece.encode())
                if vector["then"] == "open":
                    stream.sendall(probe)
            except (ConnectionError, ssl.SSLError):
                pass
            # The probe's answer may overtake others, as any may.
            wanted, probed = len(vector["replies"]), False
            while vector["then"] == "closed" or not (probed and len(got) >= wanted):
                line, held = self.read_line(stream, held)
                if not line:
                    return got, line is None
                read = lines.read_reply(line)
                if read and read[0] == seq:
                    probed = True
                else:
                    got.append(line)
        return got, False


def run_udp(authority, vectors, report):
    for vector in vectors:
        wanted = vector["both"] if "both" in vector else vector.get("udp", False)
        if wanted is False:
            continue
        send = octets(vector)
        got = authority.ask_udp(send, wanted)
        if wanted is None:
            wrong = ["there is a reply"] if got else []
        else:
            wrong = differs(wanted, got[0] if got else None, min(len(send), lines.DATAGRAM_MOST))
        if len(got) > 1:
            wrong.append("there is more than one reply")
        report.tell("udp " + vector["name"], vector["section"], wanted, got, wrong)
    late = authority.surplus()
    report.tell("udp one datagram causes at most one reply", "2.3", "nothing more", late, ["a late reply"] if late else [])


def run_tls(authority, vectors, sessions, report):
    for vector in vectors:
        wanted = vector["both"] if "both" in vector else vector.get("tls", False)
        if wanted is False:
            continue
        got = authority.ask_tls(octets(vector))
        if wanted is None:
            wrong = [] if got is None else ["there is a reply, or the connection stays open"]
        else:
            wrong = differs(wanted, got, lines.LINE_MOST)
        report.tell("tls " + vector["name"], vector["section"], wanted, got, wrong)
    for vector in sessions:
        got, closed = authority.session(vector)
        wrong, left = [], list(got)
        for wanted in vector["replies"]:
            found = next((line for line in left if not differs(wanted, line, lines.LINE_MOST)), None)
            if found is None:
                wrong.append("no reply is %s" % wanted)
            else:
                left.remove(found)
        wrong += ["a reply too many: %r" % line for line in left]
        if closed != (vector["then"] == "closed"):
            wrong.append("the connection has ended" if closed else "the connection goes on")
        report.tell("tls " + vector["name"], vector["section"], vector["replies"], got, wrong)


def run_limit(authority, vectors, report):
    """Guesses until the server limits; a right question is answered all the same."""
    for vector in vectors:
        for over in [over for over in ("udp", "tls") if getattr(authority, over)]:
            address, met, wrong, silent = vector["address"].encode(), None, [], 0
            expected = vector["udp_alone"] if over == "udp" and not authority.tls else vector[over]
            stream = authority.connect_tls() if over == "tls" else None
            door, held = (authority.connect_udp(), b"") if over == "udp" else (None, b"")
            if door:
                door.settimeout(2)
            for _ in range(vector["guesses"]):
                seq = os.urandom(16).hex().encode()
                line = lines.question(os.urandom(32).hex(), seq, address)
                if stream:
                    stream.sendall(line)
                    reply, held = authority.read_line(stream, held)
                else:
                    door.send(line)
                    try:
                        reply = door.recv(65535)
                    except socket.timeout:
                        reply = None
                read = lines.read_reply(reply) if reply else None
                if not reply:
                    silent += 1
                    if stream or silent == 2:
                        met = "silence"
                        break
                elif read and read[2] == b"UNVERIFIED":
                    met = read[3].get(b"e", b"").decode()
                    break
                elif not read or read[2] != b"INVALIDKEY" or b"e" in read[3]:
                    wrong.append("a guess is met with %r" % reply)
                    break
            if met is None and not wrong:
                wrong.append("%d guesses are answered" % vector["guesses"])
            if met not in (None, "silence", expected):
                wrong.append("e=%s, and not e=%s" % (met, expected))
            replies = []
            for after in vector["after"]:
                send = after["send"].encode()
                if over == "udp":
                    door.send(send)
                    try:
                        reply = door.recv(65535)
                    except socket.timeout:
                        reply = None
                else:
                    reply = authority.ask_tls(send)
                replies.append(reply)
                wrong += differs(after["reply"], reply, len(send) if over == "udp" else lines.LINE_MOST)
            report.tell("%s %s" % (over, vector["name"]), vector["section"], expected, (met, replies), wrong)
            (stream or door).close()
        run_flood(authority, vector, report)


def run_flood(authority, vector, report):
    """Goes on guessing, as a steady flood would, until INVALIDKEY is the answer again."""
    end = time.monotonic() + vector["again_within"]
    shut = [over for over in ("udp", "tls") if getattr(authority, over)]
    last = dict.fromkeys(shut)
    while shut and time.monotonic() < end:
        time.sleep(0.25)
        for over in list(shut):
            try:
                with authority.connect_tls() if over == "tls" else authority.connect_udp() as door:
                    door.settimeout(2)
                    # Some 20 a second: more than 50 in 10 s, even where this machine is busy.
                    for _ in range(5):
                        seq = os.urandom(16).hex().encode()
                        door.send(lines.question(os.urandom(32).hex(), seq, vector["address"].encode()))
                    last[over] = door.recv(65535)
            except OSError:
                # Silence is allowed.
                continue
            read = lines.read_reply(last[over].partition(b"\n")[0] + b"\n")
            if read and read[2] == b"INVALIDKEY":
                shut.remove(over)
    for over, line in last.items():
        wrong = ["a flood keeps the limit shut"] if over in shut else []
        report.tell("%s a flood does not keep the limit shut" % over, vector["section"], "INVALIDKEY", line, wrong)
