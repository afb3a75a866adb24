/* Write an addrauth delivery policy in C: the three functions at the end are yours.
 *
 * The types are those of the contract addrauth:policy@0.2.0 (policy.wit beside this file explains each of them), in the memory layout
 * that it has for WebAssembly. There is no C library: what is declared here is all there is. An instance lives for one call, so nothing
 * is freed, and nothing that a call leaves in memory is there in the next.
 */
#ifndef ADDRAUTH_H
#define ADDRAUTH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* A text: so many octets of UTF-8, without a zero at the end. TEXT("…") initialises one. */
typedef struct { const char *octets; size_t length; } text;
typedef struct { const text *items; size_t count; } texts;
#define TEXT(literal) { (literal), sizeof(literal) - 1 }

/* --- the facts --- */

enum { VALID, INVALID, MISSING, NONE, UNVERIFIED, UNUSABLE };                                    /* facts.status */
enum {                                                                                           /* facts.why */
  WHY_WRONG, WHY_EXPIRED, WHY_NO_FROM, WHY_SEVERAL_FROM, WHY_BAD_ADDRESS, WHY_SEVERAL_KEYS, WHY_BAD_KEY, WHY_MALFORMED_HEADER,
  WHY_DNS, WHY_TIMEOUT, WHY_LIMIT, WHY_NO_PROOF, WHY_OTHER
};
enum { MAILING_LIST = 1, FORWARDED = 2, RESENT = 4, AUTOMATIC = 8, BOUNCE = 16 };                /* facts.trail, added up */
enum { AUTH_NONE, AUTH_PASS, AUTH_FAIL, AUTH_SOFTFAIL, AUTH_NEUTRAL, AUTH_POLICY, AUTH_TEMPERROR, AUTH_PERMERROR };
enum { CLAIM_TESTING, CLAIM_SOME, CLAIM_ALL };                                                   /* facts.claim */

/* local: as it was written; domain: in lower case. */
typedef struct { text local, domain; } address;
typedef struct { bool is; address value; } maybe_address;
typedef struct { bool is; text value; } maybe_text;
typedef struct { text ip; maybe_text name; text helo; bool tls; } client;
typedef struct { uint8_t spf; bool spf_aligned; uint8_t dkim; bool dkim_aligned; uint8_t dmarc; } mail_auth;

/* A fact that the policy did not ask for, or that does not exist, is not there: its `is` is false. */
typedef struct {
  uint8_t status;
  struct { bool is; uint8_t value; } why;
  maybe_address sender, recipient, envelope_sender;
  struct { bool is; client value; } client;
  struct { bool is; uint64_t value; } size;
  struct { bool is; uint8_t value; } trail;
  struct { bool is; mail_auth value; } mail_auth;
  struct { bool is; uint8_t value; } claim;
  struct { bool is; uint32_t value; } last_valid;
  /* In the order in which check_settings asked for them: for each name the values of all its fields, the topmost first. */
  struct { const texts *items; size_t count; } headers;
} facts;

/* --- the settings --- */

enum { KIND_TEXT, KIND_NUMBER, KIND_FLAG, KIND_TEXTS };

/* The value of a setting; the kind is the one that describe declared. */
typedef struct {
  uint8_t kind;
  union { text text; int64_t number; bool flag; texts texts; };
} value;

/* A setting that describe declares, with its default. Without one (`is` is false) the administrator must set it. */
typedef struct {
  text name, summary;
  struct {
    uint8_t kind;
    union {
      struct { bool is; text value; } text;
      struct { bool is; int64_t value; } number;
      struct { bool is; bool value; } flag;
      struct { bool is; texts value; } texts;
    };
  } kind;
} setting;

/* Settings with a default: SETTING_TEXTS("name", "what it does", array_of_text, count) and the like. */
#define SETTING_TEXT(n, s, d) { TEXT(n), TEXT(s), { KIND_TEXT, .text = { true, TEXT(d) } } }
#define SETTING_NUMBER(n, s, d) { TEXT(n), TEXT(s), { KIND_NUMBER, .number = { true, (d) } } }
#define SETTING_FLAG(n, s, d) { TEXT(n), TEXT(s), { KIND_FLAG, .flag = { true, (d) } } }
#define SETTING_TEXTS(n, s, d, count) { TEXT(n), TEXT(s), { KIND_TEXTS, .texts = { true, { (d), (count) } } } }

/* --- what a policy answers --- */

typedef struct {
  text name, version, summary;
  struct { const setting *items; size_t count; } settings;
} description;

/* What a policy wants to see besides the result, added up. It is told nothing else. */
enum {
  WANTS_WHY = 1, WANTS_SENDER = 2, WANTS_RECIPIENT = 4, WANTS_ENVELOPE_SENDER = 8, WANTS_CLIENT = 16, WANTS_SIZE = 32,
  WANTS_TRAIL = 64, WANTS_MAIL_AUTH = 128, WANTS_CLAIM = 256, WANTS_LAST_VALID = 512
};
/* Made by wants, wants_headers or refuse. */
typedef struct {
  bool refused;
  union { struct { uint16_t facts; texts headers; } wanted; text words; };
} checked;

enum { ACCEPT, MARK, QUARANTINE, REJECT, DEFER };
enum { TELL_SENDER = 1, TELL_RECIPIENT = 2 };
/* Made by accept, mark, quarantine, reject or defer. */
typedef struct { uint8_t disposition; uint8_t notify; text reason; } decision;

size_t strlen(const char *words);
int memcmp(const void *a, const void *b, size_t length);
/* Whether two texts are the same but for the case of ASCII letters. */
bool same(text a, text b);
/* Memory for one call, which nobody frees. Where there is none, the call ends: the failure decision of the configuration applies. */
void *take(size_t octets, size_t align);

static inline text words(const char *of) { return (text){ of, strlen(of) }; }

static inline checked wants_headers(uint16_t facts, const text *names, size_t count) {
  return (checked){ false, .wanted = { facts, { names, count } } };
}
static inline checked wants(uint16_t facts) { return wants_headers(facts, 0, 0); }
/* These settings cannot be worked with; the words are for the administrator. */
static inline checked refuse(const char *why) { return (checked){ true, .words = words(why) }; }

/* Reasons are for people: one line of printable ASCII, at most 400 octets. */
static inline decision accept(void) { return (decision){ ACCEPT, 0, { 0, 0 } }; }
static inline decision mark(const char *reason) { return (decision){ MARK, 0, words(reason) }; }
static inline decision quarantine(const char *reason) { return (decision){ QUARANTINE, 0, words(reason) }; }
static inline decision defer(const char *reason) { return (decision){ DEFER, 0, words(reason) }; }
/* tell: TELL_SENDER, TELL_RECIPIENT, both added up, or 0: nobody, which the filter allows for wrong keys alone. */
static inline decision reject(const char *reason, uint8_t tell) { return (decision){ REJECT, tell, words(reason) }; }

/* --- the policy: yours --- */

/* What it is, and which settings it has. */
description describe(void);
/* What it wants to see under these settings, or why it cannot work with them. They are all there, in the order of describe and of the
 * declared kinds: the filter sees to that. */
checked check_settings(const value *settings, size_t count);
/* What happens to a message. The settings are those that check_settings took. */
decision decide(const facts *facts, const value *settings, size_t count);

#endif
