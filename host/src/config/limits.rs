//! The limits that the machine's room or the administrator depends on, in one place.

use std::time::Duration;

mod outline;

pub use outline::PolicyOutline;

/// Each limit that the machine's room or the administrator depends on, with its reason; bounds of a grammar or of one step stand
/// beside their code. Not configurable, unless a setting of the same name says so.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Header fields in one message. Real mail stays below 200; a reader of ours is linear in it.
    pub header_fields: usize,
    /// Octets of one header block: the same as Postfix's `header_size_limit` times ten.
    pub header_octets: usize,
    /// Recipients of one message; Postfix's `smtpd_recipient_limit`.
    pub recipients: usize,
    /// Octets of one milter frame, checked before anything is allocated. Postfix sends at most 64 KiB of body at a time.
    pub milter_frame: usize,
    /// Octets of all milter frames at once, from their first octet until they are done with, beyond 8 KiB of each: a piece of a
    /// body (64 KiB) on each of a thousand connections. Beyond it the connection ends, with 451 for its message.
    pub frames_octets: usize,
    /// Milter connections at once: a Postfix smtpd process each, 100 of them by default.
    pub milter_connections: usize,
    /// Messages in flight, between MAIL and our answer: bounds what their headers can occupy (256 KiB each).
    pub messages_in_flight: usize,
    /// How long a milter connection may stay silent: longer than an SMTP client may (5 min, RFC 5321 §4.5.3.2).
    pub milter_idle: Duration,
    /// How long writing one answer to the MTA may take.
    pub milter_write: Duration,
    /// How long a new milter connection may take to negotiate: an MTA does so at once, a half-open connection never.
    pub milter_greeting: Duration,
    /// Octets of one name, path or macro value that the MTA tells: Postfix's `line_length_limit`.
    pub milter_text: usize,
    /// Fields in one message which the MTA may be asked to delete (keys, status, results of others). Postfix counts from the
    /// top for each of them, so its work grows with the square; a message with more is refused.
    pub key_fields: usize,
    /// How long examining one message may take: more than verification (20 s) and decisions (2 s) together.
    pub examine: Duration,
    /// How long comparing a recipient with the first one may take (`policy.mixed = "split"`), while the SMTP client waits: then
    /// he stays, and the end of the message settles it.
    pub milter_compare: Duration,
    /// How long our answer may take from the end of the message on: Postfix waits 30 s.
    pub milter_answer: Duration,
    /// How long messages in flight may go on when the program stops: the longest answer.
    pub milter_drain: Duration,
    /// VERIFY questions in flight.
    pub questions: usize,
    /// VERIFY questions in flight to one AS address of which nothing is known, or which was silent.
    pub questions_per_endpoint: usize,
    /// The same to one that answers: one more for each round that it answered.
    pub questions_per_endpoint_most: usize,
    /// Messages that wait for the turn of a question, to whichever AS, and those that wait for the answer to another message's
    /// equal question: each of them holds one of [`Limits::messages_in_flight`], and the other half of these is for mail about
    /// which nobody has to wait.
    pub questions_waiting: usize,
    /// Questions that wait at one AS address nevertheless: who floods another one puts off nobody here.
    pub questions_waiting_per_endpoint: usize,
    /// Questions and equal ones that wait in all, those included: a fifth of [`Limits::messages_in_flight`] is left whatever
    /// floods, though somebody who has many servers asked can fill the rest.
    pub questions_waiting_most: usize,
    /// Questions that one network may have waiting at one AS, less one for each that it spent: a large provider's mail after a
    /// restart. As many of its messages may wait for answers to others' equal questions.
    pub questions_waiting_per_network: usize,
    /// The same for a network that has spent much; and for equal questions, while half of [`Limits::questions_waiting`] wait.
    pub questions_waiting_least: usize,
    /// Questions per second and AS address that were not answered VALIDKEY: what mail that others wrote makes us ask.
    pub failures_per_second: f64,
    /// The burst above [`Limits::failures_per_second`].
    pub failures_burst: f64,
    /// Networks of which is known what each has spent at one AS: the least spender makes room for a new one.
    pub networks_per_endpoint: usize,
    /// Questions that are held against a network at most.
    pub network_held_against: f64,
    /// How many of them a second are forgiven: a flood is forgotten ten minutes after it ended.
    pub network_forgiven: f64,
    /// How long a network that brought a right key of an address has a share of its own for it.
    pub proven_for: Duration,
    /// Pairs of network and address that are remembered so, at some 50 octets each.
    pub proven_known: usize,
    /// How long finding an AS in DNS may take: what `verify` leaves beside the 3 s of a question.
    pub locate: Duration,
    /// Between two looks whether /etc/resolv.conf has changed; a network manager's change is noticed so soon.
    pub resolv_conf_look: Duration,
    /// DNS answers kept, and failures of DNS remembered: a busy server's daily domains, at a few hundred octets each.
    pub dns_kept: u64,
    /// How long a DNS answer is believed at most, whatever its TTL: a withdrawn AS must not live on for a week.
    pub dns_kept_for: Duration,
    /// How long the absence of a record is believed at most: how soon a domain that joins is noticed.
    pub dns_absence_kept_for: Duration,
    /// Addresses of a domain's AS that one question goes to (SPECIFICATION §4.4: the first four count).
    pub endpoints: usize,
    /// Addresses of a domain's AS that are all asked about a new key before it is sent out: 8 records, and 8 hosts behind each.
    pub endpoints_everywhere: usize,
    /// Timeouts in a row after which an endpoint is left alone.
    pub breaker_timeouts: u32,
    /// How long it is left alone before one probe.
    pub breaker_open_for: Duration,
    /// Endpoints that are remembered at once; the least used are forgotten first.
    pub peers_known: usize,
    /// `AS=` records of one name; more, and the domain counts as unverified.
    pub as_records: usize,
    /// `AS=` records that are used, in order of priority.
    pub as_used: usize,
    /// Entries of the cache of valid keys: 83 octets each, and the strings.
    pub cache_valid: usize,
    /// Entries of the cache of invalid keys; a cache of its own, so that junk evicts no good entry.
    pub cache_invalid: usize,
    /// How long a valid answer is believed, at most.
    pub cache_valid_for: Duration,
    /// How long a valid answer without `t=` is believed.
    pub cache_valid_without_t: Duration,
    /// How long an invalid answer is believed.
    pub cache_invalid_for: Duration,
    /// How long a failure to verify is believed.
    pub cache_unverified_for: Duration,
    /// How long one call of a policy may run. A decision takes microseconds.
    pub policy_time: Duration,
    /// Memory of one policy instance, in octets.
    pub policy_memory: usize,
    /// What a component may be made of.
    pub policy_outline: PolicyOutline,
    /// Octets that a policy may hand back in one call.
    pub policy_result: usize,
    /// Octets of a policy's text that are kept.
    pub policy_text: usize,
    /// Octets of log lines that wait to be written: some thousand lines; beyond it they are lost, and counted.
    pub log_octets: usize,
    /// How long the last log lines may take to be written when the program ends: whoever does not read them is not waited for.
    pub log_flush: Duration,
    /// Octets of a configuration file: one line for each of ten thousand recipients.
    pub config_octets: u64,
    /// Octets of a file of certificates, or of a key in PEM: the system's own bundle of roots has 220 KiB.
    pub pem_octets: u64,
    /// Octets of a file that holds a secret: a key, a token, a password.
    pub secret_octets: u64,
    /// Octets of a policy's test cases, and of the other files of its workshop.
    pub cases_octets: u64,
    /// Octets of a message that the demonstration takes: Postfix's own bound is 10 MB.
    pub demo_octets: u64,
    /// Octets of a component file.
    pub policy_file: usize,
    /// How long all decisions on one message may take.
    pub policy_message: Duration,
    /// Decisions that wait for a free thread; beyond it the failure decision applies.
    pub policy_queue: usize,
    /// Threads that decide, apart from the daemon's own; a decision takes microseconds, so a few serve any machine.
    pub policy_threads: usize,
    /// How long trying one component may take by the clock, and compiling it; a policy takes 25 ms, and a slow or busy machine
    /// is to be forgiven.
    pub policy_compile: Duration,
    /// Processor time for the trial of one component, in whole seconds: one of 25 KB takes 0.03 s, one of 1 MB some 1 s. By
    /// the clock it takes more where the machine is busy; `policy_compile` bounds that.
    pub policy_trial_time: Duration,
    /// Address space of the process that tries a component, in octets: the program itself and its compiler take 150 MiB.
    pub policy_trial_memory: usize,
    /// Octets of the answer of the process that tries a component; they fit into a pipe at once.
    pub policy_trial_answer: u64,
    /// Digests that are remembered of components that passed their trial; a server has some ten.
    pub policy_trials_known: usize,
    /// Octets of native stack that a policy may use; its own memory holds most of what it works on.
    pub policy_stack: usize,
    /// INVALIDKEY answers of our AS to one /24 or /56 in ten seconds; right proofs are always answered.
    pub invalid_answers: u32,
    /// Networks whose INVALIDKEY answers are counted within one window; more, and the window begins anew: some 3 MB.
    pub invalid_networks: usize,
    /// VERIFY questions that one socket of our AS works on at once; beyond it they wait in the kernel's buffer.
    pub answers_at_once: usize,
    /// VERIFY questions that are looked up together: under load one question to the table serves as many.
    pub answers_together: usize,
    /// TLS connections to our AS at once, those in their handshake included, and at most an eighth of the descriptors that this
    /// process may have (each takes two); for a new one beyond that the one silent longest is closed. Some 50 KB each.
    pub streams: usize,
    /// The same from one /24 or /56: a large provider's servers keep one each, and one network must not take all.
    pub streams_per_network: usize,
    /// How long a TLS handshake with our AS may take: two round trips and a slow machine; a half-open connection never ends it.
    pub stream_handshake: Duration,
    /// How long a TLS connection to our AS may say nothing between two lines.
    pub stream_idle: Duration,
    /// How long a TLS connection to our AS may last, whatever it says: nobody holds a place for ever.
    pub stream_age: Duration,
    /// How long one line may take from its first octet to its last: a verifier writes it in one go.
    pub stream_line: Duration,
    /// How long the other side may leave our replies unread before its connection is closed.
    pub stream_write: Duration,
    /// Octets of pipelined lines that are read before they are answered: some hundred questions.
    pub stream_octets: usize,
    /// Lines of one TLS connection that are worked on at once: the table has few readers.
    pub stream_lines: usize,
    /// Wrong tokens from one network in ten seconds that are logged and answered; beyond it the connection is closed unheard.
    pub wrong_tokens: u32,
    /// How long one try to ask over TLS may take, connection and handshake included.
    pub stream_try: Duration,
    /// How long a TLS connection of ours is kept for the next question: below what servers allow ([`Limits::stream_idle`]).
    pub stream_kept_for: Duration,
    /// TLS connections that are kept without a question; beyond it one is closed after its answer.
    pub streams_kept: usize,
    /// Lines on a TLS connection of ours that answer nothing we asked; then it is closed.
    pub stream_strays: usize,
    /// Addresses whose fetched keys are kept in memory: the senders of a busy hour, at some 200 octets each.
    pub fetch_addresses: usize,
    /// How long a fetched key is used before the AS is asked for a newer one.
    pub fetch_kept: Duration,
    /// The same where the AS had none: how long a new address's mail goes out without.
    pub fetch_absence_kept: Duration,
    /// How long a fetched key that lives is used while the AS cannot be reached: a revoked one must not be used for ever.
    pub fetch_stale: Duration,
    /// How long the AS is left alone after fetching failed.
    pub fetch_rest: Duration,
    /// How long the AS keeps an ended key, to say `e=expired`.
    pub expired_kept: Duration,
    /// Between two sweeps of the AS's ended keys, and before the first, also of the keyring's: a late one costs a few rows, and
    /// one right after the start may go by a clock that is ahead.
    pub key_sweep: Duration,
    /// An AVT below this gets a warning: Postfix keeps mail in its queue for 5 days, and its key must not end before that.
    pub avt_advised: Duration,
    /// Living keys of one address, and the comparisons that each answer of our AS costs, whether the address has keys or not:
    /// some 30 us. AGI and AVT by default leave three living keys, and as many that ended.
    pub keys_per_address: usize,
    /// An answer of our AS leaves so long after its question came, or after a multiple of it where answering took longer: it
    /// hides the time that reading an address's keys takes, some 2 us each, and is little beside a network's.
    pub answer_after: Duration,
    /// AGI and AVT of an address at least: no mail is delivered and read in less.
    pub interval_least: Duration,
    /// AGI and AVT of an address at most: a key that leaked is to end some day.
    pub interval_most: Duration,
    /// Both together: a key's time is told in seven digits (SPECIFICATION §1.5), and who learned it stamps no longer than that.
    pub lifetime_most: Duration,
    /// Keys made in one transaction: others may write to the table between two.
    pub keys_at_once: usize,
    /// Between two looks for addresses whose turn has come: how even issue times are.
    pub issue_every: Duration,
    /// Keys that are taken, asked about and posted together: with one connection to the MTA, some 60 a second at most.
    pub posts_at_once: usize,
    /// The pause between two such lots: what a burst may be for the MTA and the mailboxes.
    pub post_pause: Duration,
    /// Between two looks for keys to be posted: how long one made by a command waits.
    pub post_look: Duration,
    /// Tries to post one key before it is given up: 20 days, and a key ends after 12 by default.
    pub post_tries: u32,
    /// Characters of the reason why a key is not posted yet: a line of a log.
    pub post_note: usize,
    /// Octets of a list of addresses that is imported: a million lines.
    pub import_octets: u64,
    /// Wrong lines of such a list that are told one by one: a screenful.
    pub import_errors: usize,
    /// Octets of a table that says which logins own which addresses: a million rows.
    pub owner_octets: u64,
    /// How long asking Postfix's postmap about such a table may take, while an SMTP client waits.
    pub owner_time: Duration,
    /// How long its answer is believed: how soon a login that lost an address is noticed.
    pub owner_kept: Duration,
    /// Its answers that are remembered: a busy server's senders of a minute.
    pub owner_known: usize,
    /// Processes of postmap at once, a few MB each.
    pub owner_at_once: usize,
    /// All look-ups of owners for one message, its key included: several tables, each in its own time, could outlast the MTA's
    /// patience with a milter.
    pub owner_message: Duration,
    /// How long before its newest key ends an address is warned about: a day to find out why the AS made no other.
    pub key_alarm: Duration,
    /// Between two looks at the keyring for keys that end; and between two warnings about one address.
    pub key_watch: Duration,
    /// Keys that one such look reads; more are told as "and others".
    pub keys_ending: u32,
    /// Addresses that one such warning names: a line of a log.
    pub keys_named: usize,
    /// Addresses about which a warning is remembered, so that it is not repeated at once.
    pub keys_warned: usize,
    /// INVALIDKEY answers that differ (address, verifier, network) and wait to be written: some 3 MB.
    pub forged_waiting: usize,
    /// How often they are written: a report lags by this, and a crash loses this much.
    pub forged_written: Duration,
    /// Rows of them on the disk, some 40 MB; beyond it they are counted for their domain alone.
    pub forged_rows: u64,
    /// How long they are kept: a season, long enough to show a domain's owner what changed.
    pub forged_kept: Duration,
    /// How long a statement waits for another process's lock on a database.
    pub store_busy: Duration,
    /// The same for a command: a person waits longer than an MTA does.
    pub store_busy_command: Duration,
    /// How long opening a database waits for other processes that hold its file: longer than a statement, since nobody waits
    /// for a start, and one that gives up leaves the machine without its daemon.
    pub store_open: Duration,
    /// Connections that read one database; two cores are busy with that.
    pub store_readers: u32,
    /// How long making an obligation durable may take before the message is deferred: Postfix waits 30 s for a milter.
    pub keep: Duration,
    /// Octets of a body that is to be kept: above Postfix's `message_size_limit` of 10,240,000; a larger one is refused.
    pub body_octets: usize,
    /// Octets of all bodies that are kept in memory at once, until they are written down; beyond it, 451.
    pub bodies_octets: usize,
    /// Journal rows that wait to be written together; beyond it the door waits for the disk.
    pub journal_waiting: usize,
    /// Octets of the rows that wait: what a policy saw of a header may be long.
    pub journal_octets: usize,
    /// Octets of one row: beyond it, the facts that the policies saw are left out, and the decisions cannot be made again.
    pub journal_row: usize,
    /// How long a journal row waits for others, where the message's fate does not hang on it.
    pub journal_batch: Duration,
    /// Characters of a kept message's subject that lists show: a line of a wide screen.
    pub subject_shown: usize,
    /// Kept messages that one list shows; the newest come first, and who has more looks for one recipient's.
    pub quarantine_listed: u32,
    /// How long releasing a message waits to hear what became of it: a few looks of the outbox, and a slow MTA.
    pub release_wait: Duration,
    /// Entries of one user's list of senders whose mail he wants.
    pub allowed_per_user: u32,
    /// Between two reports (DSN) to one sender.
    pub report_pair: Duration,
    /// Octets of a message's header that a report carries: real ones stay below, and many reports must not fill the disk.
    pub report_header: usize,
    /// How long notices over the hourly cap are collected before they are told of together.
    pub digest_after: Duration,
    /// Senders that a digest names; more are "others".
    pub digest_senders: usize,
    /// Octets of a text of the postmaster's own: some thirty pages.
    pub template_octets: u64,
    /// Tries to submit one notice before it is given up and journalled so.
    pub notice_tries: u32,
    /// Notices to one recipient in an hour.
    pub notices_per_hour: u32,
    /// Between two notices to one recipient about one sender.
    pub notice_pair: Duration,
    /// Between two notices of this installation: one a second at most.
    pub notice_interval: Duration,
    /// Notices that may wait to be sent, some three hours' worth: mail to many recipients must not fill the disk with them.
    pub notices_waiting: u32,
    /// How long each step of handing a notice to the SMTP server may take.
    pub notice_step: Duration,
    /// How long the server may take for the message itself: RFC 5321 §4.5.3.2.6 asks for ten minutes, since who gives up
    /// earlier sends it twice.
    pub notice_message: Duration,
    /// How long a notice under way may go on when the program stops, so that it need not be sent twice.
    pub notice_drain: Duration,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            header_fields: 1_000,
            header_octets: 256 * 1024,
            recipients: 1_000,
            milter_frame: 1024 * 1024,
            frames_octets: 64 * 1024 * 1024,
            milter_connections: 500,
            messages_in_flight: 500,
            milter_idle: Duration::from_secs(600),
            milter_write: Duration::from_secs(30),
            milter_greeting: Duration::from_secs(10),
            milter_text: 2_048,
            key_fields: 1_000,
            examine: Duration::from_secs(25),
            milter_compare: Duration::from_secs(2),
            milter_answer: Duration::from_secs(28),
            milter_drain: Duration::from_secs(30),
            questions: 256,
            questions_per_endpoint: 8,
            questions_per_endpoint_most: 64,
            questions_waiting: 250,
            questions_waiting_per_endpoint: 16,
            questions_waiting_most: 400,
            questions_waiting_per_network: 64,
            questions_waiting_least: 4,
            failures_per_second: 10.0,
            failures_burst: 20.0,
            networks_per_endpoint: 256,
            network_held_against: 60.0,
            network_forgiven: 0.1,
            proven_for: Duration::from_secs(86_400),
            proven_known: 100_000,
            locate: Duration::from_secs(2),
            resolv_conf_look: Duration::from_secs(5),
            dns_kept: 10_000,
            dns_kept_for: Duration::from_secs(3_600),
            dns_absence_kept_for: Duration::from_secs(300),
            endpoints: 4,
            endpoints_everywhere: 64,
            breaker_timeouts: 5,
            breaker_open_for: Duration::from_secs(30),
            peers_known: 10_000,
            as_records: 16,
            as_used: 8,
            cache_valid: 100_000,
            cache_invalid: 10_000,
            cache_valid_for: Duration::from_secs(3_600),
            cache_valid_without_t: Duration::from_secs(300),
            cache_invalid_for: Duration::from_secs(60),
            cache_unverified_for: Duration::from_secs(5),
            policy_time: Duration::from_millis(10),
            policy_memory: 16 * 1024 * 1024,
            policy_outline: PolicyOutline::default(),
            policy_result: 64 * 1024,
            policy_text: 400,
            log_octets: 1024 * 1024,
            log_flush: Duration::from_secs(1),
            config_octets: 1024 * 1024,
            pem_octets: 1024 * 1024,
            secret_octets: 4_096,
            cases_octets: 4 * 1024 * 1024,
            demo_octets: 64 * 1024 * 1024,
            policy_file: 4 * 1024 * 1024,
            policy_message: Duration::from_secs(2),
            policy_queue: 1_000,
            policy_threads: std::thread::available_parallelism().map_or(2, |n| n.get().clamp(2, 8)),
            policy_compile: Duration::from_secs(20),
            policy_trial_time: Duration::from_secs(2),
            policy_trial_memory: 512 * 1024 * 1024,
            policy_trial_answer: 1_024,
            policy_trials_known: 1_024,
            policy_stack: 256 * 1024,
            invalid_answers: 50,
            invalid_networks: 65_536,
            answers_at_once: 8,
            answers_together: 32,
            streams: 1_024,
            streams_per_network: 64,
            stream_handshake: Duration::from_secs(5),
            stream_idle: Duration::from_secs(60),
            stream_age: Duration::from_secs(3_600),
            stream_line: Duration::from_secs(5),
            stream_write: Duration::from_secs(10),
            stream_octets: 16 * 1024,
            stream_lines: 32,
            wrong_tokens: 5,
            stream_try: Duration::from_secs(3),
            stream_kept_for: Duration::from_secs(30),
            streams_kept: 64,
            stream_strays: 32,
            fetch_addresses: 10_000,
            fetch_kept: Duration::from_secs(300),
            fetch_absence_kept: Duration::from_secs(60),
            fetch_stale: Duration::from_secs(3_600),
            fetch_rest: Duration::from_secs(5),
            expired_kept: Duration::from_secs(14 * 86_400),
            key_sweep: Duration::from_secs(3_600),
            avt_advised: Duration::from_secs(5 * 86_400),
            keys_per_address: 64,
            answer_after: Duration::from_millis(2),
            interval_least: Duration::from_secs(3_600),
            interval_most: Duration::from_secs(115 * 86_400),
            lifetime_most: Duration::from_secs(9_999_999),
            keys_at_once: 100,
            issue_every: Duration::from_secs(60),
            posts_at_once: 16,
            post_pause: Duration::from_millis(250),
            post_look: Duration::from_secs(2),
            post_tries: 250,
            post_note: 300,
            import_octets: 64 * 1024 * 1024,
            import_errors: 20,
            owner_octets: 64 * 1024 * 1024,
            owner_time: Duration::from_secs(5),
            owner_kept: Duration::from_secs(60),
            owner_known: 10_000,
            owner_at_once: 4,
            owner_message: Duration::from_secs(8),
            key_alarm: Duration::from_secs(86_400),
            key_watch: Duration::from_secs(3_600),
            keys_ending: 10_000,
            keys_named: 10,
            keys_warned: 10_000,
            forged_waiting: 10_000,
            forged_written: Duration::from_secs(10),
            forged_rows: 200_000,
            forged_kept: Duration::from_secs(90 * 86_400),
            store_busy: Duration::from_secs(2),
            store_busy_command: Duration::from_secs(15),
            store_open: Duration::from_secs(30),
            store_readers: 4,
            keep: Duration::from_secs(5),
            body_octets: 64 * 1024 * 1024,
            bodies_octets: 256 * 1024 * 1024,
            journal_waiting: 10_000,
            journal_octets: 64 * 1024 * 1024,
            journal_row: 1024 * 1024,
            journal_batch: Duration::from_millis(500),
            subject_shown: 200,
            quarantine_listed: 10_000,
            release_wait: Duration::from_secs(20),
            allowed_per_user: 1_000,
            report_pair: Duration::from_secs(3_600),
            report_header: 32 * 1024,
            digest_after: Duration::from_secs(3_600),
            digest_senders: 20,
            template_octets: 64 * 1024,
            notice_tries: 20,
            notices_per_hour: 5,
            notice_pair: Duration::from_secs(86_400),
            notice_interval: Duration::from_secs(1),
            notices_waiting: 10_000,
            notice_step: Duration::from_secs(30),
            notice_message: Duration::from_secs(600),
            notice_drain: Duration::from_secs(10),
        }
    }
}
