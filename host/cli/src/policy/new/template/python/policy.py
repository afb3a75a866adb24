"""Protects names that are forged most: what comes in them without a right key is refused or kept back.

The functions are those of the contract, sdk/policy.wit. `componentize-py -d sdk -w guest bindings .` writes its types, for editors.
"""

from componentize_py_types import Err
from wit_world import exports
from wit_world.exports.policy import (
    Decision, Description, Disposition, KeyStatus, Kind_Texts, Notify, Setting, Trail, Wanted, Wants,
)


class Policy(exports.Policy):
    def describe(self):
        names = Kind_Texts(["@bank.example", "boss@ours.example"])
        return Description(
            name="{{name}}",
            version="0.1.0",
            summary="Protects names that are forged most.",
            settings=[Setting("protected", "whose names: addresses, or @domain", names)],
        )

    # What it wants to see besides the result. It is told nothing else.
    def check_settings(self, settings):
        [names] = settings
        for name in names.value:
            if "@" not in name:
                raise Err(f'protected: "{name}" is no address: write a@b.example, or @b.example')
        return Wanted(Wants.SENDER | Wants.TRAIL, [])

    def decide(self, facts, settings):
        [names] = settings
        is_protected = facts.sender is not None and is_among(facts.sender, names.value)
        # None: nobody knows. Empty: nothing tells of a list or a forwarder, which may lose a key.
        direct = facts.trail == Trail(0)
        if facts.status == KeyStatus.INVALID:
            if is_protected:
                return Decision(Disposition.REJECT, Notify.RECIPIENT, "a wrong key in a protected name")
            return Decision(Disposition.MARK, Notify(0), "a wrong key")
        if facts.status == KeyStatus.MISSING and is_protected and direct:
            return Decision(Disposition.QUARANTINE, Notify(0), "no key in a protected name")
        return Decision(Disposition.ACCEPT, Notify(0), "")


def is_among(sender, names):
    """Whether the address is one of these, or of one of these domains. Letter case does not matter."""
    for name in names:
        local, _, domain = name.lower().rpartition("@")
        if sender.domain.lower() == domain and local in ("", sender.local.lower()):
            return True
    return False
