/* Protects names that are forged most: what comes in them without a right key is refused or kept back. */
#include "sdk/addrauth.h"

enum { PROTECTED, SETTINGS };

static const text protected_names[] = { TEXT("@bank.example"), TEXT("boss@ours.example") };
static const setting settings_of_policy[SETTINGS] = {
  [PROTECTED] = SETTING_TEXTS("protected", "whose names: addresses, or @domain", protected_names, 2),
};

description describe(void) {
  return (description){
    .name = TEXT("{{name}}"),
    .version = TEXT("0.1.0"),
    .summary = TEXT("Protects names that are forged most."),
    .settings = { settings_of_policy, SETTINGS },
  };
}

/* Where the last @ stands; the length where there is none. */
static size_t at_sign(text name) {
  size_t at = name.length;
  for (size_t i = 0; i < name.length; i++)
    if (name.octets[i] == '@') at = i;
  return at;
}

/* What it wants to see besides the result. It is told nothing else. */
checked check_settings(const value *settings, size_t count) {
  texts names = settings[PROTECTED].texts;
  for (size_t i = 0; i < names.count; i++)
    if (at_sign(names.items[i]) == names.items[i].length)
      return refuse("protected: a name in it is no address: write a@b.example, or @b.example");
  return wants(WANTS_SENDER | WANTS_TRAIL);
}

/* Whether the address is one of these, or of one of these domains. Letter case does not matter. */
static bool is_among(address sender, texts names) {
  for (size_t i = 0; i < names.count; i++) {
    text name = names.items[i];
    size_t at = at_sign(name);
    text local = { name.octets, at };
    text domain = { name.octets + at + 1, name.length - at - 1 };
    if (same(sender.domain, domain) && (local.length == 0 || same(sender.local, local))) return true;
  }
  return false;
}

decision decide(const facts *facts, const value *settings, size_t count) {
  bool is_protected = facts->sender.is && is_among(facts->sender.value, settings[PROTECTED].texts);
  /* Nothing tells of a list or a forwarder, which may lose a key. Where nobody knows, `is` is false. */
  bool direct = facts->trail.is && facts->trail.value == 0;
  switch (facts->status) {
  case INVALID:
    return is_protected ? reject("a wrong key in a protected name", TELL_RECIPIENT) : mark("a wrong key");
  case MISSING:
    return is_protected && direct ? quarantine("no key in a protected name") : accept();
  default:
    return accept();
  }
}
