#!/usr/bin/env python3
"""Runs the test vectors of SPECIFICATION.md against an Authentication Server or a verifier. See README.md.

    run.py as --udp HOST:PORT [--tls HOST:PORT --ca FILE [--name NAME]]
    run.py adapter -- COMMAND…
    run.py check
    run.py h1 KEY SEQ ADDRESS [TAGS]

Exit code: 0 all vectors passed, 1 some failed, 2 they could not be run.
"""

import argparse
import json
import pathlib
import sys

from runner import authority, lines, schema, verifier
from runner.report import Report

HERE = pathlib.Path(__file__).resolve().parent
COUNTED_MOST = 40


def load():
    """All files of vectors, by their kinds."""
    files = {}
    for path in sorted(HERE.glob("*.json")):
        if path.name != "schema.json":
            read = json.loads(path.read_text(encoding="utf-8"))
            files[read["kind"]] = read
    return files


def place(text):
    """HOST:PORT, the host perhaps in brackets."""
    host, _, port = text.rpartition(":")
    if not host or not port.isdigit():
        raise argparse.ArgumentTypeError("write HOST:PORT")
    return host.strip("[]"), int(port)


def run_as(args, files, report):
    """Asks an Authentication Server."""
    host = args.name or (args.tls[0] if args.tls else "")
    server = authority.Authority(files["table"], args.udp, args.tls, args.ca, host)
    if args.udp:
        authority.run_udp(server, files["as"]["vectors"], report)
    if args.tls:
        authority.run_tls(server, files["as"]["vectors"], files["sessions"]["vectors"], report)
    authority.run_limit(server, files["limit"]["vectors"], report)


def check(files, report):
    """Whether the files keep to the schema and to each other."""
    rules = json.loads((HERE / "schema.json").read_text(encoding="utf-8"))
    for kind, read in files.items():
        wrong = schema.errors(read, rules, rules)
        report.tell("%s.json keeps to schema.json" % kind, "1", "", "", wrong[:20])
    counted = 0
    for vector in files["as"]["vectors"]:
        reply = vector["both"] if "both" in vector else vector.get("udp")
        counted += bool(reply) and reply["status"] == "INVALIDKEY" and reply["e"] is None
    wrong = [] if counted <= COUNTED_MOST else ["as.json would meet the limit of 50 answers"]
    report.tell("as.json stays below the limit", "2.5", COUNTED_MOST, counted, wrong)
    for vector in files["h1"]["vectors"]:
        made = [lines.verify_key(vector["key"]).hex(),
                lines.proof(vector["key"], *[vector[word].encode() for word in ("seq", "address", "tags")]).decode()]
        wanted = [vector["k"], vector["proof"]]
        report.tell("h1 of %s" % vector["address"], "1.6", wanted, made, ["it differs"] if wanted != made else [])
    for key in files["table"]["keys"]:
        made = lines.verify_key(key["key"]).hex()
        report.tell("K of %s" % key["address"], "1.6", key["k"], made, ["it differs"] if made != key["k"] else [])


def arguments():
    """What the command line says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quiet", action="store_true", help="tell only what failed or was skipped")
    verbs = parser.add_subparsers(dest="verb", required=True)
    server = verbs.add_parser("as", help="ask an Authentication Server that knows table.json")
    server.add_argument("--udp", type=place, metavar="HOST:PORT")
    server.add_argument("--tls", type=place, metavar="HOST:PORT")
    server.add_argument("--ca", metavar="FILE", help="the certificate that signed the server's, in PEM")
    server.add_argument("--name", help="the name in the server's certificate, where it is not HOST")
    adapter = verbs.add_parser("adapter", help="ask a verifier through its adapter")
    adapter.add_argument("--only", metavar="WORD", help="only vectors in whose name this stands")
    adapter.add_argument("command", nargs="+", metavar="COMMAND")
    verbs.add_parser("check", help="hold the files against schema.json, and the proofs against their keys")
    h1 = verbs.add_parser("h1", help="print the proof for a line: for those who write vectors")
    h1.add_argument("words", nargs="+", metavar="KEY SEQ ADDRESS TAGS")
    args = parser.parse_args()
    if args.verb == "as" and not (args.udp or args.tls):
        parser.error("as needs --udp or --tls")
    if args.verb == "as" and args.tls and not args.ca:
        parser.error("--tls needs --ca")
    return args


def main():
    """Runs what is asked for."""
    args = arguments()
    if args.verb == "h1":
        key, *words = args.words
        words = [word.encode() for word in words] + [b""] * (3 - len(words))
        print(lines.proof(key, *words[:3]).decode())
        return 0
    report = Report(args.quiet)
    try:
        files = load()
        if args.verb == "as":
            run_as(args, files, report)
        elif args.verb == "adapter":
            verifier.run(args.command, files, report, args.only)
        else:
            check(files, report)
    except (OSError, authority.NoAnswer, verifier.Broken) as error:
        print("run.py: %s" % error, file=sys.stderr)
        report.end()
        return 2
    return report.end()


if __name__ == "__main__":
    sys.exit(main())
