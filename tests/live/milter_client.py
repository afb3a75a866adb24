#!/usr/bin/env python3
"""milter_client.py BINARY - drive `addrauth filter` with two programs that share no code with it: the milter client
`miltertest` from PyPI, and an AS written from the protocol's text alone. Prints a line per check; exit code 1 if one fails.
"""
import base64
import hashlib
import hmac
import os
import re
import socket
import subprocess
import sys
import tempfile
import threading
import time

from miltertest import MilterConnection
from miltertest import constants as k

KEY = "Vb3kQ9w2Zr7tYp0sXn4mLc8dHf1gJa6eUi5oRk2yTq9wEz3xBv7nMs4pDl8hGj0K"
WRONG = "W" * 64
SENDER = "alice@send.test"
LEADING_SPACE = 0x100000


def answer(line, key):
    """The reply of the AS of send.test, which knows one address and one key, to a VERIFY line."""
    words = line.removesuffix(b"\r\n").split(b" ")
    _, seq, address, cred = words[:4]
    tags = b" ".join(words[4:])
    stored = hashlib.sha256(b"addrauth-key-v1\0" + key.encode()).digest()
    mac = hmac.new(stored, b"\0".join([b"addrauth-verify-v1", seq, address, tags]), hashlib.sha256).digest()
    proof = b"h1." + base64.urlsafe_b64encode(mac).rstrip(b"=")
    valid = address == SENDER.encode() and hmac.compare_digest(cred, proof)
    return b" ".join([b"VERIFY_REPLY", seq, address, b"VALIDKEY t=3600" if valid else b"INVALIDKEY"]) + b"\r\n"


def authority(lines):
    """Starts the AS; it keeps the lines that it was asked in `lines`."""
    asked = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    asked.bind(("127.0.0.1", 0))

    def serve():
        while True:
            line, peer = asked.recvfrom(2048)
            lines.append(line)
            asked.sendto(answer(line, KEY), peer)

    threading.Thread(target=serve, daemon=True).start()
    return asked.getsockname()[1]


def start(binary, folder, as_port):
    """Starts the filter and waits until it listens; the process, and the port that it was given and tells in its log."""
    config = os.path.join(folder, "addrauth.toml")
    with open(config, "w", encoding="ascii") as file:
        file.write(f"""
hostname = "mx.recv.test"
final_domains = ["recv.test"]
observe = false
state_dir = "{folder}"
[milter]
listen = ["inet:127.0.0.1:0"]
[verify]
dns = ["127.0.0.1:9"]
timeout = "4s"
[verify.domain."send.test"]
as = "127.0.0.1:{as_port}"
[policy]
invalid = "reject-notify-sender"
""")
    with open(os.path.join(folder, "log"), "wb") as log:
        process = subprocess.Popen([binary, "filter", "--config", config], stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    for _ in range(1200):
        with open(os.path.join(folder, "log"), encoding="utf-8", errors="replace") as log:
            told = re.search(r"listening on inet:127\.0\.0\.1:(\d+)", log.read())
        if told:
            return process, int(told[1])
        if process.poll() is not None:
            break
        time.sleep(0.05)
    process.kill()
    process.wait()
    with open(os.path.join(folder, "log"), encoding="utf-8", errors="replace") as log:
        sys.exit(f"the filter does not listen:\n{log.read()}")


def message(connection, fields, body="hello\r\n"):
    """One message on an open connection; returns the answers to its end."""
    connection.send_macro(k.SMFIC_MAIL, **{"{mail_addr}": SENDER})
    connection.send(k.SMFIC_MAIL, args=[f"<{SENDER}>"])
    connection.send(k.SMFIC_RCPT, args=["<bob@recv.test>"])
    connection.send_macro(k.SMFIC_DATA, i="QUEUEID1")
    connection.send(k.SMFIC_DATA)
    connection.send_headers([("From", f" {SENDER}"), ("Subject", " hello"), *fields])
    connection.send(k.SMFIC_EOH)
    connection.send_body(body)
    return connection.send_eom()


def connect(port, protocol):
    """A connection of an MTA that offers these protocol steps and no others.

    It lets its milters not choose their macros: this client cannot read the lists that would follow.
    """
    stream = socket.create_connection(("127.0.0.1", port), 30)
    connection = MilterConnection(stream)
    connection.optneg_mta(actions=k.SMFI_V6_ACTS & ~k.SMFIF_SETSYMLIST, protocol=protocol)
    connection.send_macro(k.SMFIC_CONNECT, j="mx.recv.test")
    connection.send(k.SMFIC_CONNECT, hostname="client.test", family=k.SMFIA_INET, port=1234, address="192.0.2.7")
    connection.send(k.SMFIC_HELO, helo="client.test")
    return connection


def check_all(port, lines, log):
    """Yields the name of each check and whether it held, with what was seen."""
    for offered, name in [(LEADING_SPACE, "leading spaces kept"), (0, "an MTA that offers nothing")]:
        connection = connect(port, offered)
        answers = message(connection, [("X-Auth-Key", f" {KEY}"), ("x-auth-key", f" {KEY}")])
        deleted = [a[1]["index"] for a in answers if a[0] == k.SMFIR_CHGHEADER and a[1]["value"] == ""]
        yield f"{name}: both keys deleted, the last first", deleted == [2, 1], answers
        commands = [a[0] for a in answers]
        status = [a[1] for a in answers if a[0] in (k.SMFIR_INSHEADER, k.SMFIR_ADDHEADER)]
        told = len(status) == 1 and status[0]["name"] == "X-Auth-Key-Status"
        yield f"{name}: one status, VALIDKEY", told and status[0]["value"].split(";")[0].strip() == "VALIDKEY", answers
        spaced = told and status[0]["value"].startswith(" ") == (offered == LEADING_SPACE)
        yield f"{name}: its value begins as negotiated", spaced, answers
        tidy = commands == sorted(commands, key=[k.SMFIR_CHGHEADER, k.SMFIR_INSHEADER, k.SMFIR_ACCEPT].index)
        yield f"{name}: deletions, insertion, acceptance, in this order", tidy and commands[-1] == k.SMFIR_ACCEPT, answers
        answers = message(connection, [("X-Auth-Key", f" {WRONG}")])
        refused = answers[-1][0] == k.SMFIR_REPLYCODE and answers[-1][1]["smtpcode"] == "550"
        yield f"{name}: a second message on the connection, its wrong key refused with 550", refused, answers
        connection.sock.close()
    yield "the key never crossed the wire to the AS", lines and not any(KEY.encode() in line for line in lines), lines
    with open(log, encoding="utf-8", errors="replace") as words:
        said = words.read()
    yield "nor does it stand in the log", KEY not in said and WRONG not in said, said


def main():
    # The protocol text's own example: what our AS computes must be right before it judges anybody.
    example = b"VERIFY 00112233445566778899aabbccddeeff alice@example.com h1._rAsoD7yZ6cqlf4q2GMiPXaF0RJlCyb0VlTrPCC084U"
    global SENDER
    SENDER = "alice@example.com"
    assert b" VALIDKEY" in answer(example + b" v=1 from=example.net\r\n", KEY), "this script's AS computes wrong proofs"
    assert b" INVALIDKEY" in answer(example + b" v=1 from=example.org\r\n", KEY), "this script's AS believes everybody"
    SENDER = "alice@send.test"
    failed, lines = 0, []
    with tempfile.TemporaryDirectory(prefix="aa-mt-") as folder:
        process, port = start(sys.argv[1], folder, authority(lines))
        try:
            for name, held, seen in check_all(port, lines, os.path.join(folder, "log")):
                print("ok  " if held else "FAIL", name)
                if not held:
                    failed += 1
                    print("     saw:", seen)
        finally:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
