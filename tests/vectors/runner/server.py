"""An Authentication Server on loopback that does as it is told, and remembers what it was asked."""

import pathlib
import socket
import ssl
import threading
import time

from . import lines, sockets

STUB = pathlib.Path(__file__).resolve().parent.parent / "stub"
ALPN = "addrauth/1"


class Server:
    """`does`: {"udp": [act…] or "closed", "tls": [act…], "certificate": "as" or "other", "alpn": false}.

    The first question meets the first act, and so on; the last act stays. Repeats of a question, which have its seq, meet
    its act again. `keys` are all keys that verifiers of this vector know: a proof must be by one of them.
    """

    def __init__(self, does, keys, wire):
        self.does, self.keys, self.wire = does, keys, wire
        self.asked = {"udp": [], "tls": []}
        self.wrong = []
        self.lock = threading.Lock()
        self.udp, self.tcp = sockets.pair()
        self.port = self.udp.getsockname()[1]
        if does.get("udp") == "closed":
            # A socket that takes datagrams from elsewhere alone: others meet an ICMP error, and the port stays ours.
            self.udp.connect(("127.0.0.1", 9))
        else:
            threading.Thread(target=self.serve_udp, daemon=True).start()
        # Without `listen` a connection is refused, and the port stays ours.
        if "tls" in does:
            self.tcp.listen(16)
            threading.Thread(target=self.serve_tls, daemon=True).start()

    def close(self):
        """Ends it."""
        sockets.end(self.udp, self.tcp)

    def counts(self, over):
        """How many questions came over `udp` or `tls`, repeats not counted."""
        with self.lock:
            return len(self.asked[over])

    def serve_udp(self):
        while True:
            try:
                line, peer = self.udp.recvfrom(4096)
            except OSError:
                return
            if peer is None:
                # It was ended.
                return

            def say(octets, other_port, peer=peer):
                door = socket.socket(socket.AF_INET, socket.SOCK_DGRAM) if other_port else self.udp
                try:
                    door.sendto(octets, peer)
                except OSError:
                    pass

            self.meet("udp", line, lines.DATAGRAM_MOST, say)

    def serve_tls(self):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        host = self.does.get("certificate", "as")
        context.load_cert_chain(STUB / (host + ".pem"), STUB / (host + ".key"))
        if self.does.get("alpn", True):
            context.set_alpn_protocols([ALPN])
        while True:
            try:
                peer, _ = self.tcp.accept()
            except OSError:
                return
            threading.Thread(target=self.converse, args=(context, peer), daemon=True).start()

    def converse(self, context, peer):
        try:
            peer.settimeout(30)
            with context.wrap_socket(peer, server_side=True) as stream:
                lock = threading.Lock()

                def say(octets, _):
                    with lock:
                        stream.sendall(octets)

                held = b""
                while True:
                    while b"\n" not in held:
                        more = stream.recv(4096)
                        if not more:
                            return
                        held += more
                    line, _, held = held.partition(b"\n")
                    self.meet("tls", line + b"\n", lines.LINE_MOST, say)
        except OSError:
            return

    def meet(self, over, line, most, say):
        """Notes a line down and does what is to be done about it."""
        read, wrong = lines.read_request(line)
        if read is None or wrong or len(line) > most:
            self.wrong.append("%s: %s: %r" % (over, wrong or "the line is too long", line))
            if read is None:
                return
        seq, address, cred, tags = read
        acts = self.does.get(over) or [{"silence": True}]
        with self.lock:
            if seq not in self.asked[over]:
                self.asked[over].append(seq)
            act = acts[min(self.asked[over].index(seq), len(acts) - 1)]
        self.judge(over, act, read)
        threading.Thread(target=self.perform, args=(act, seq, address, cred, tags, say), daemon=True).start()

    def judge(self, over, act, read):
        """What every question of a verifier must be like."""
        seq, address, cred, tags = read
        raw = lines.KEY.match(cred)
        if bool(raw) != bool(act.get("raw_key")):
            self.wrong.append("%s: %s" % (over, "the key itself is sent" if raw else "a proof where the key itself is wanted"))
        if not raw and cred not in [lines.proof(key, seq, address, tags) for key in self.keys]:
            self.wrong.append("%s: the proof is by none of the keys: %r" % (over, cred))
        if self.wire is not None and address != self.wire:
            self.wrong.append("%s: the address is %r and not %r" % (over, address, self.wire))
        words = tags.split(b" ")
        if b"v=1" not in words and any(word.startswith(b"v=") for word in words):
            self.wrong.append("%s: another version: %r" % (over, tags))

    def perform(self, act, seq, address, cred, tags, say):
        for one in act.get("all", [act]):
            time.sleep(one.get("after_ms", 0) / 1000)
            try:
                self.perform_one(one, seq, address, cred, tags, say)
            except OSError:
                # The other side is gone.
                return

    def perform_one(self, act, seq, address, cred, tags, say):
        reply = b"VERIFY_REPLY " + seq + b" " + address + b" "
        if "say" in act:
            say(reply + act["say"].encode() + b"\r\n", False)
        elif "key" in act:
            right = cred in (act["key"].encode(), lines.proof(act["key"], seq, address, tags))
            say(reply + (b"VALIDKEY t=3600" if right else b"INVALIDKEY") + b"\r\n", False)
        elif "raw" in act:
            octets = act["raw"].encode().replace(b"{seq}", seq).replace(b"{address}", address)
            say(octets, act.get("other_port", False))
