/* A delivery policy as a core WebAssembly module: what it exports, and how its memory is read and written.
 *
 * The module imports nothing. All integers are little-endian; a place is an octet's number in the module's memory; a text is UTF-8
 * without a NUL at its end. These are the rules of the Component Model's Canonical ABI for addrauth:policy/policy@0.2.0.
 *
 *   memory                                            the one memory
 *   cabi_realloc(i32 0, i32 0, i32 align, i32 octets) -> i32 place      gives room for what the host writes
 *   addrauth:policy/policy@0.2.0#describe()           -> i32 place of addrauth_description
 *   addrauth:policy/policy@0.2.0#check-settings(i32 place, i32 count)   -> i32 place of addrauth_checked
 *        place and count of an array of addrauth_value, one for each setting of the description, in its order
 *   addrauth:policy/policy@0.2.0#decide(i32 place of addrauth_asked)    -> i32 place of addrauth_decision
 *   cabi_post_NAME(i32 place)                         where it is there: call it once the result of NAME is read
 *
 * Make an instance for each decision, or at least throw one away that trapped. A host bounds the time (fuel or epochs) and the memory,
 * checks each place and count against the size of the memory before it reads, and takes a policy that fails for `defer`.
 */
#ifndef ADDRAUTH_POLICY_H
#define ADDRAUTH_POLICY_H

#include <stddef.h>
#include <stdint.h>

/* A text, or an array of elements: where it begins, and how many octets or elements it has. */
typedef struct { uint32_t place, count; } addrauth_list;

/* An option begins with an octet: 0, nothing; 1, the value follows at its alignment. */
typedef struct { uint8_t there; uint8_t value; } addrauth_option_octet;
typedef struct { uint8_t there; uint32_t value; } addrauth_option_number;
typedef struct { uint8_t there; addrauth_list value; } addrauth_option_text;

enum addrauth_status { ADDRAUTH_VALID, ADDRAUTH_INVALID, ADDRAUTH_MISSING, ADDRAUTH_NONE, ADDRAUTH_UNVERIFIED, ADDRAUTH_UNUSABLE };
enum addrauth_why {
    ADDRAUTH_WRONG, ADDRAUTH_EXPIRED, ADDRAUTH_NO_FROM, ADDRAUTH_SEVERAL_FROM, ADDRAUTH_BAD_ADDRESS, ADDRAUTH_SEVERAL_KEYS,
    ADDRAUTH_BAD_KEY, ADDRAUTH_MALFORMED_HEADER, ADDRAUTH_DNS, ADDRAUTH_TIMEOUT, ADDRAUTH_LIMIT, ADDRAUTH_NO_PROOF, ADDRAUTH_OTHER
};
enum addrauth_claim { ADDRAUTH_TESTING, ADDRAUTH_SOME, ADDRAUTH_ALL };
enum addrauth_result {
    ADDRAUTH_NO_RESULT, ADDRAUTH_PASS, ADDRAUTH_FAIL, ADDRAUTH_SOFTFAIL, ADDRAUTH_NEUTRAL, ADDRAUTH_POLICY, ADDRAUTH_TEMPERROR,
    ADDRAUTH_PERMERROR
};
enum addrauth_disposition { ADDRAUTH_ACCEPT, ADDRAUTH_MARK, ADDRAUTH_QUARANTINE, ADDRAUTH_REJECT, ADDRAUTH_DEFER };

/* Sets: one bit for each, the first the lowest. */
enum addrauth_trail { ADDRAUTH_MAILING_LIST = 1, ADDRAUTH_FORWARDED = 2, ADDRAUTH_RESENT = 4, ADDRAUTH_AUTOMATIC = 8, ADDRAUTH_BOUNCE = 16 };
enum addrauth_notify { ADDRAUTH_TELL_SENDER = 1, ADDRAUTH_TELL_RECIPIENT = 2 };
enum addrauth_wants {
    ADDRAUTH_WANTS_WHY = 1, ADDRAUTH_WANTS_SENDER = 2, ADDRAUTH_WANTS_RECIPIENT = 4, ADDRAUTH_WANTS_ENVELOPE_SENDER = 8,
    ADDRAUTH_WANTS_CLIENT = 16, ADDRAUTH_WANTS_SIZE = 32, ADDRAUTH_WANTS_TRAIL = 64, ADDRAUTH_WANTS_MAIL_AUTH = 128,
    ADDRAUTH_WANTS_CLAIM = 256, ADDRAUTH_WANTS_LAST_VALID = 512
};

typedef struct { addrauth_list local, domain; } addrauth_address;
typedef struct { uint8_t there; addrauth_address value; } addrauth_option_address;
typedef struct { addrauth_list ip; addrauth_option_text name; addrauth_list helo; uint8_t tls; } addrauth_client;
typedef struct { uint8_t there; addrauth_client value; } addrauth_option_client;
typedef struct { uint8_t there; uint8_t pad[7]; uint64_t value; } addrauth_option_size;
/* Octets of addrauth_result, and 0 or 1 for aligned. */
typedef struct { uint8_t spf, spf_aligned, dkim, dkim_aligned, dmarc; } addrauth_mail_auth;
typedef struct { uint8_t there; addrauth_mail_auth value; } addrauth_option_mail_auth;

/* What was found out. A fact that the policy does not want is left out: `there` is 0. */
typedef struct {
    uint8_t status;
    addrauth_option_octet why;
    addrauth_option_address sender, recipient, envelope_sender;
    addrauth_option_client client;
    uint8_t pad[4];
    addrauth_option_size size;
    addrauth_option_octet trail;
    addrauth_option_mail_auth mail_auth;
    addrauth_option_octet claim;
    addrauth_option_number last_valid;
    addrauth_list headers; /* for each wanted name: an addrauth_list of texts, the values, topmost first */
    uint8_t pad_end[4];
} addrauth_facts;

/* A setting's value: tag 0 a text, 1 a number, 2 a flag, 3 a list of texts. */
typedef struct {
    uint8_t tag;
    uint8_t pad[7];
    union { addrauth_list text; int64_t number; uint8_t flag; addrauth_list texts; } of;
} addrauth_value;

typedef struct { addrauth_facts facts; addrauth_list settings; } addrauth_asked;

typedef struct { uint8_t disposition, notify; addrauth_list reason; } addrauth_decision;

/* tag 0: the settings are taken, and this is wanted; 1: they are not, and the text says why. */
typedef struct {
    uint8_t tag;
    union { struct { uint16_t facts; addrauth_list headers; } wanted; addrauth_list why; } of;
} addrauth_checked;

typedef struct { addrauth_list name, version, summary, settings; } addrauth_description;
/* tag as in addrauth_value; the default begins with the octet of an option: 0, the setting has to be set. */
typedef struct {
    addrauth_list name, summary;
    uint8_t tag;
    uint8_t pad[7];
    union { addrauth_option_text text; struct { uint8_t there; uint8_t pad[7]; int64_t value; } number; addrauth_option_octet flag; } kind;
} addrauth_setting;

#if defined(__STDC_VERSION__) && __STDC_VERSION__ >= 201112L
_Static_assert(offsetof(addrauth_facts, client) == 64 && offsetof(addrauth_facts, size) == 104, "facts");
_Static_assert(offsetof(addrauth_facts, mail_auth) == 122 && offsetof(addrauth_facts, claim) == 128, "facts");
_Static_assert(offsetof(addrauth_facts, last_valid) == 132 && offsetof(addrauth_facts, headers) == 140, "facts");
_Static_assert(sizeof(addrauth_facts) == 152 && sizeof(addrauth_asked) == 160, "facts");
_Static_assert(sizeof(addrauth_value) == 16 && sizeof(addrauth_decision) == 12 && sizeof(addrauth_checked) == 16, "results");
_Static_assert(sizeof(addrauth_setting) == 40 && offsetof(addrauth_setting, kind) == 24, "settings");
#endif

#endif
