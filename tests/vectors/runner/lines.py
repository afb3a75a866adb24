"""VERIFY lines and proofs (SPECIFICATION §1)."""

import base64
import hashlib
import hmac
import re

SEQ = re.compile(rb"[0-9A-Fa-f]{1,32}\Z")
STATUS = re.compile(rb"[A-Za-z_]{1,32}\Z")
TAG = re.compile(rb"([A-Za-z][A-Za-z0-9]{0,15})=([!-~]{0,128})\Z")
KEY = re.compile(rb"[A-Za-z0-9_-]{22,128}\Z")
PROOF = re.compile(rb"h1\.[A-Za-z0-9_-]{43}\Z")
TAGS_MOST = 8
DATAGRAM_MOST = 512
LINE_MOST = 1024


def verify_key(key):
    """K of an AuthKey."""
    return hashlib.sha256(b"addrauth-key-v1\0" + key.encode()).digest()


def proof(key, seq, address, tags):
    """h1; seq, address and tags are octets as they stand on the wire."""
    text = b"\0".join([b"addrauth-verify-v1", seq, address, tags])
    return b"h1." + base64.urlsafe_b64encode(hmac.new(verify_key(key), text, hashlib.sha256).digest()).rstrip(b"=")


def question(key, seq, address, tags=b"v=1"):
    """A whole request line."""
    return b" ".join([b"VERIFY", seq, address, proof(key, seq, address, tags), tags]) + b"\r\n"


def read_tags(words):
    """The tags of a line as a dictionary; None where they are outside the grammar."""
    tags = {}
    for word in words:
        found = TAG.match(word)
        if not found or found[1] in tags or len(tags) == TAGS_MOST:
            return None
        tags[found[1]] = found[2]
    return tags


def read_reply(line):
    """(seq, address, status, tags) of a reply line; None where it is none."""
    if not line.startswith(b"VERIFY_REPLY ") or not line.endswith(b"\r\n"):
        return None
    words = line[:-2].split(b" ")[1:]
    if len(words) < 3 or not SEQ.match(words[0]) or not words[1] or not STATUS.match(words[2]):
        return None
    tags = read_tags(words[3:])
    return None if tags is None else (words[0], words[1], words[2], tags)


def read_request(line):
    """(seq, address, cred, octets of the tags) of a verifier's line, and what is wrong with it, or None."""
    words = line.split(b" ", 4)
    if not line.endswith(b"\r\n") or words[0] != b"VERIFY" or len(words) < 4:
        return None, "no request line"
    tags = words[4][:-2] if len(words) == 5 else b""
    seq, address, cred = words[1], words[2], words[3] if len(words) == 5 else words[3][:-2]
    wrong = None
    if not re.match(rb"[0-9A-Fa-f]{32}\Z", seq):
        wrong = "seq has not 32 digits"
    elif not (KEY.match(cred) or PROOF.match(cred)):
        wrong = "neither a key nor a proof"
    elif len(words) == 5 and read_tags(tags.split(b" ")) is None:
        wrong = "tags outside the grammar"
    return (seq, address, cred, tags), wrong
