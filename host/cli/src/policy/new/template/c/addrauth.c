/* What lies between the contract and the three functions of a policy: the exports, the memory, and what a compiler calls by itself. */
#include "addrauth.h"

#define EXPORT(name) __attribute__((export_name(name)))
#define PAGE 65536u

/* The layout is the contract's. */
_Static_assert(sizeof(void *) == 4, "WebAssembly of 32 bits");
_Static_assert(sizeof(maybe_address) == 20 && sizeof(client) == 32 && sizeof(mail_auth) == 5, "parts of the facts");
_Static_assert(offsetof(facts, sender) == 4 && offsetof(facts, size) == 104 && offsetof(facts, last_valid) == 132, "facts");
_Static_assert(offsetof(facts, headers) == 140 && sizeof(facts) == 152, "facts");
_Static_assert(sizeof(value) == 16 && sizeof(setting) == 40 && sizeof(description) == 32, "settings");
_Static_assert(sizeof(checked) == 16 && sizeof(decision) == 12, "answers");

/* --- memory: handed out from the end of what the linker placed, and never taken back --- */

extern unsigned char __heap_base;
static uintptr_t next;

void *take(size_t octets, size_t align) {
  if (next == 0) next = (uintptr_t)&__heap_base;
  uintptr_t start = (next + align - 1) & ~(uintptr_t)(align - 1);
  uintptr_t end;
  if (start < next || __builtin_add_overflow(start, octets, &end)) __builtin_trap();
  uint64_t have = (uint64_t)__builtin_wasm_memory_size(0) * PAGE;
  if (end > have && __builtin_wasm_memory_grow(0, (end - (uintptr_t)have + PAGE - 1) / PAGE) == (size_t)-1) __builtin_trap();
  next = end;
  return (void *)start;
}

EXPORT("cabi_realloc")
void *cabi_realloc(void *old, size_t had, size_t align, size_t octets) {
  void *new = take(octets, align);
  unsigned char *to = new;
  for (size_t i = 0; i < had && i < octets; i++) to[i] = ((unsigned char *)old)[i];
  return new;
}

/* --- what a compiler calls by itself --- */

void *memcpy(void *to, const void *from, size_t length) {
  unsigned char *t = to;
  const unsigned char *f = from;
  while (length--) *t++ = *f++;
  return to;
}

void *memmove(void *to, const void *from, size_t length) {
  unsigned char *t = to;
  const unsigned char *f = from;
  if (t <= f) return memcpy(to, from, length);
  while (length--) t[length] = f[length];
  return to;
}

void *memset(void *at, int octet, size_t length) {
  unsigned char *t = at;
  while (length--) *t++ = (unsigned char)octet;
  return at;
}

int memcmp(const void *a, const void *b, size_t length) {
  const unsigned char *x = a, *y = b;
  for (; length; length--, x++, y++)
    if (*x != *y) return *x - *y;
  return 0;
}

size_t strlen(const char *words) {
  size_t length = 0;
  while (words[length]) length++;
  return length;
}

static unsigned char lower(char c) { return (unsigned char)(c >= 'A' && c <= 'Z' ? c + 32 : c); }

bool same(text a, text b) {
  if (a.length != b.length) return false;
  for (size_t i = 0; i < a.length; i++)
    if (lower(a.octets[i]) != lower(b.octets[i])) return false;
  return true;
}

/* --- the exports --- */

typedef struct { facts facts; struct { const value *items; size_t count; } settings; } asked;

EXPORT("addrauth:policy/policy@0.2.0#describe")
const description *addrauth_describe(void) {
  description *out = take(sizeof *out, _Alignof(description));
  *out = describe();
  return out;
}

EXPORT("addrauth:policy/policy@0.2.0#check-settings")
const checked *addrauth_check_settings(const value *settings, size_t count) {
  checked *out = take(sizeof *out, _Alignof(checked));
  *out = check_settings(settings, count);
  return out;
}

EXPORT("addrauth:policy/policy@0.2.0#decide")
const decision *addrauth_decide(const asked *asked) {
  decision *out = take(sizeof *out, _Alignof(decision));
  *out = decide(&asked->facts, asked->settings.items, asked->settings.count);
  return out;
}
