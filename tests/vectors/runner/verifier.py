"""Asks a verifier through its adapter: one JSON question a line on its standard input, one JSON answer a line on its output."""

import contextlib
import json
import os
import queue
import subprocess
import threading

from . import server
from .dns import Zone

# How long one answer may take: a verifier may wait 5 s for a message, and as long again before a silent drop.
PATIENCE = 60
LOOPBACK = ["127.0.0.0/8"]


class Broken(Exception):
    """The adapter does not answer."""


class Adapter:
    """A verifier under test."""

    def __init__(self, command):
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.answers = queue.Queue()
        threading.Thread(target=self.read, daemon=True).start()

    def read(self):
        for line in self.process.stdout:
            self.answers.put(line)
        self.answers.put(None)

    def ask(self, question):
        """The answer to one question."""
        try:
            self.process.stdin.write(json.dumps(question).encode() + b"\n")
            self.process.stdin.flush()
            line = self.answers.get(timeout=PATIENCE)
        except (OSError, queue.Empty) as error:
            raise Broken("no answer to %s" % question["id"]) from error
        if line is None:
            raise Broken("the adapter has ended before it answered %s" % question["id"])
        try:
            answer = json.loads(line)
        except ValueError as error:
            raise Broken("no JSON in answer to %s: %r" % (question["id"], line)) from error
        if not isinstance(answer, dict) or answer.get("id") != question["id"]:
            raise Broken("no answer to %s: %r" % (question["id"], line))
        return answer

    def close(self):
        """Ends it: its input ends, and so should it."""
        self.process.stdin.close()
        try:
            self.process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def filled(value, ports):
    """The same records, with the ports of the servers in place of their names in braces."""
    if isinstance(value, str):
        for name, port in ports.items():
            value = value.replace("{%s}" % name, str(port))
        return value
    if isinstance(value, list):
        return [filled(one, ports) for one in value]
    if isinstance(value, dict):
        return {name: filled(one, ports) for name, one in value.items()}
    return value


def differs(expected, answer):
    """What of the answer is not as expected; what is not expected does not count."""
    return ["%s differs" % name for name, value in expected.items() if answer.get(name) != value]


def try_one(adapter, report, name, vector, question):
    """One question, with the servers that the vector wants around it."""
    keys = question.get("keys", []) + [entry["key"] for entry in vector.get("cache", [])]
    keys = ["".join(key.split()) for key in keys]
    wire = vector["wire"].encode() if "wire" in vector else None
    servers = {word: server.Server(does, keys, wire) for word, does in vector.get("servers", {}).items()}
    zone = Zone(filled(vector["dns"], {word: one.port for word, one in servers.items()}))
    with contextlib.ExitStack() as stack:
        for one in [zone, *servers.values()]:
            stack.callback(one.close)
        answer = adapter.ask({"id": name, "dns": zone.address, **question})
    if "skip" in answer:
        return report.skip(name, answer["skip"])
    wrong = differs(vector["expect"], answer)
    for word, counts in vector.get("asked", {}).items():
        for over, count in counts.items():
            if servers[word].counts(over) != count:
                wrong.append("%s was asked %d questions over %s, and not %d" % (word, servers[word].counts(over), over, count))
    for word, one in servers.items():
        wrong += ["%s: %s" % (word, why) for why in one.wrong]
    return report.tell(name, vector["section"], vector["expect"], answer, wrong)


def message(vector):
    """The question that a vector of outcome.json or cache.json asks."""
    question = {
        "kind": "verify",
        "from": vector["from"],
        "keys": vector["keys"],
        "smtputf8": vector.get("smtputf8", False),
        "reverse_path": vector.get("reverse_path", "bounce@example.net"),
        "confirm": vector.get("confirm", False),
        "hostname": vector.get("hostname", "mx.example.net"),
        "allow": vector.get("allow", LOOPBACK),
        "roots": os.fspath(server.STUB / "root.pem"),
        "now": vector.get("now", 1_900_000_000),
        "cache": vector.get("cache", []),
    }
    return question


def place(domain, dns, section, expect):
    """A vector and its question: what DNS says of a domain."""
    vector = {"dns": dns, "section": section, "expect": expect}
    return vector, {"kind": "locate", "domain": domain, "allow": []}


def questions(files):
    """All of them: name, vector, question."""
    for kind in ("outcome", "cache"):
        for vector in files[kind]["vectors"]:
            yield "%s %s" % (kind, vector["name"]), vector, message(vector)
    for vector in files["choice"]["vectors"]:
        yield "choice %s" % vector["name"], *place(vector["domain"], vector["dns"], vector["section"], vector["expect"])
    for vector in files["targets"]["vectors"]:
        address, port = vector["address"], vector["port"]
        kind = "AAAA" if ":" in address else "A"
        dns = {"example.com": {"TXT": ["AS=as.example.com:%d" % port]}, "as.example.com": {kind: [address]}}
        expect = {"result": "unverified"}
        if "connects" in vector:
            to = vector["connects"]
            expect = {"result": "located", "endpoints": [("[%s]:%d" if ":" in to else "%s:%d") % (to, port)]}
        yield "targets %s port %d" % (address, port), *place("example.com", dns, vector["section"], expect)
    for vector in files["record"]["vectors"]:
        yield "record %s" % json.dumps(vector["text"])[:100], *place("example.com", *published(vector))
    for vector in files["from"]["vectors"]:
        error = {"several": "several-from", "bad": "bad-address", "nobody": "bad-address"}
        expect = {"result": "none", "why": None, "address": vector["reads"]} if "reads" in vector else {
            "result": "unusable", "why": error[vector["error"]]}
        asked = {"section": vector["section"], "dns": {}, "expect": expect, "from": [vector["value"]], "keys": [],
                 "smtputf8": True}
        yield "from %s" % json.dumps(vector["value"])[:100], asked, message(asked)


def published(vector):
    """A text as the one record of example.com, and what a verifier takes from it."""
    text, dns = vector["text"], {}
    if "reads" in vector:
        host, port = vector["reads"][len("AS="):].split(";")[0].split(":")
        dns[host] = {"A": ["8.8.8.8"]}
        claim = vector["reads"].rsplit("m=", 1)[1]
        # A low port is refused, which is another vector's business.
        expect = {"result": "located", "claim": claim, "endpoints": ["8.8.8.8:%s" % port]}
    else:
        expect = {"result": "unverified"} if text.startswith("AS=") else {"result": "none"}
    return {"example.com": {"TXT": [text]}, **dns}, vector["section"], expect


def run(command, files, report, only=None):
    """Asks them all, or those whose names hold this, one after another."""
    adapter = Adapter(command)
    try:
        for name, vector, question in questions(files):
            if only is None or only in name:
                try_one(adapter, report, name, vector, question)
    finally:
        adapter.close()
