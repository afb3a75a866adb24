'use strict'

// haraka-plugin-addrauth: has addrauth examine each message, and does what it answers.
//
// No verifier and no policy is here. The message goes to addrauth's hooks listener as Haraka is about to hand it on; the
// answer changes its header and its recipients, or refuses or drops it. What is not understood whole is deferred.

const DSN = require('haraka-dsn')

const { Malformed, parse_answer } = require('./lib/answer')
const { header_after, recipients_after, status_word } = require('./lib/apply')
const { BOOLEANS, parse_config } = require('./lib/config')
const { Door, DoorError } = require('./lib/door')
const { KEY, MARK, NEW_KEY, STATUS, field_name, without } = require('./lib/header')
const { Unreadable, keep_fields, put_header, read } = require('./lib/message')
const { hush } = require('./lib/quiet')
const { build_request } = require('./lib/request')
const { keep_results, results_of, write_results } = require('./lib/results')

Object.assign(exports, { parse_answer, parse_config })

// Milliseconds after which the way to addrauth's former address is closed, when it changes: longer than a hook lasts.
const FORMER_MILLISECONDS = 35 * 1000
// Before other plugins of the same hook.
const FIRST = -90

exports.register = function () {
  this.load_addrauth_ini()
  hush(require.cache)
  this.register_hook('mail', 'note_mail', FIRST)
  this.register_hook('rcpt', 'note_rcpt', FIRST)
  this.register_hook('rcpt_ok', 'ask_rcpt')
  this.register_hook('data_post', 'examine')
  // A plugin that ends data_post before this one, or overrules a refusal, does not get a message past it.
  this.register_hook('queue', 'guard_queue', FIRST)
  this.register_hook('queue_outbound', 'guard_queue', FIRST)
}

// Reads config/addrauth.ini. What cannot be stops Haraka at its start, and changes nothing later.
exports.load_addrauth_ini = function () {
  const ini = this.config.get('addrauth.ini', { booleans: BOOLEANS }, () => {
    try {
      this.load_addrauth_ini()
    } catch (error) {
      this.logerror(`${error.message}; the former settings stay`)
    }
  })
  const cfg = parse_config(ini, this.timeout)
  const former = this.door
  this.cfg = cfg
  this.door = new Door(cfg, (words) => this.logcrit(words))
  if (former) setTimeout(() => former.close(), FORMER_MILLISECONDS).unref()
}

// Haraka ends; the time for the farewell is bounded.
exports.shutdown = function () {
  return this.door?.close()
}

// --- what is known of a transaction ---------------------------------------------------------------------------------

// Beside Haraka's notes, which plugins log: mail, rcpt (parameters by recipient), rcpts (asked at RCPT), outcome, and
// results, the fields Authentication-Results that addrauth wrote.
const known = new WeakMap()

function facts_of(txn) {
  if (!known.has(txn)) known.set(txn, { mail: {}, rcpt: new Map(), rcpts: 0, outcome: null, results: [] })
  return known.get(txn)
}

exports.note_mail = function (next, connection, params) {
  const txn = connection?.transaction
  if (txn) facts_of(txn).mail = params?.[1] ?? {}
  next()
}

exports.note_rcpt = function (next, connection, params) {
  const txn = connection?.transaction
  if (txn && params?.[0]) facts_of(txn).rcpt.set(params[0], params[1] ?? {})
  next()
}

// --- hooks ------------------------------------------------------------------------------------------------------------

// The answer of a hook, once.
function once(next) {
  let called = false
  return (...args) => {
    if (called) return
    called = true
    next(...args)
  }
}

const later = (text = 'Address authentication is not available, try again later') => [
  DENYSOFT,
  DSN.create(451, text, 3, 0),
]

const TOO_LARGE = 'Message is too large to be examined'

// A fault in words: its kind and its place. Nobody knows what stands in its text.
function fault(error) {
  const place = /\n( +at [^\n]*)/.exec(error?.stack ?? '')?.[1].trim() ?? 'somewhere'
  return `a fault, ${error?.name}, ${place}`
}

// Runs an asynchronous decision so that it answers the hook once, whatever happens. A hook that throws would let the
// message through, and a promise that fails would end Haraka.
function answer(plugin, next, connection, decide) {
  const nextOnce = once(next)
  const { transaction } = connection
  const run = async () => {
    try {
      return await decide()
    } catch (error) {
      plugin.logerror(fault(error))
      return later()
    }
  }
  run()
    .then((args) => {
      if (connection.transaction === transaction) nextOnce(...args)
    })
    // What comes after next() is Haraka's.
    .catch((error) => plugin.logerror(fault(error)))
}

// RCPT, accepted by another plugin. It is asked about where [main] rcpt = true.
exports.ask_rcpt = function (next, connection) {
  const txn = connection?.transaction
  if (!txn || !this.cfg.stages.includes('rcpt')) return next()
  answer(this, next, connection, async () => {
    const facts = facts_of(txn)
    facts.rcpts += 1
    const plan = await this.ask('rcpt', `rcpt-${facts.rcpts}`, connection, txn, null)
    if (plan.failed) return this.handle_failure(plan.failed, 'rcpt', txn)
    return this.handle_rcpt(plan, txn)
  })
}

// The end of the message.
exports.examine = function (next, connection) {
  const txn = connection?.transaction
  if (!txn) return next()
  answer(this, next, connection, async () => {
    const outcome = await this.outcome(connection, txn)
    // What is dropped goes on to the queue, where guard_queue takes it.
    return outcome.drop ? [] : outcome.args
  })
}

// Before a message is queued: nothing passes that was not examined, or that was refused or dropped.
exports.guard_queue = function (next, connection) {
  const txn = connection?.transaction
  if (!txn) return next()
  answer(this, next, connection, async () => {
    const { args } = await this.outcome(connection, txn)
    if (!args.length) keep_results(txn, facts_of(txn).results)
    return args
  })
}

// What becomes of a message: { args, drop }, the arguments of next(). It is asked about once.
exports.outcome = function (connection, txn) {
  const facts = facts_of(txn)
  facts.outcome ??= this.decide(connection, txn).catch((error) => {
    this.logerror(fault(error))
    return { args: later() }
  })
  return facts.outcome
}

exports.decide = async function (connection, txn) {
  const outcome = await decide(this, connection, txn)
  // Should another plugin overrule a refusal, the message goes without a key.
  if (outcome.args.length && !outcome.drop) strip(txn, [KEY, NEW_KEY, STATUS, MARK])
  return outcome
}

async function decide(plugin, connection, txn) {
  const deadline = performance.now() + plugin.cfg.milliseconds
  let sent
  try {
    keep_fields(txn)
    write_results(connection, txn)
    sent = await read(txn, AbortSignal.timeout(plugin.cfg.milliseconds))
  } catch (error) {
    return { args: plugin.handle_failure(error, 'data', txn) }
  }
  if (connection.transaction !== txn) return { args: later() }
  const asked = [...txn.rcpt_to]
  const plan = await plugin.ask('data', 'data', connection, txn, sent.raw, deadline)
  if (connection.transaction !== txn) return { args: later() }
  if (plan.failed) return { args: plugin.handle_failure(plan.failed, 'data', txn) }
  return plugin.handle_data(plan, txn, sent, asked)
}

// Asks addrauth. Gives a plan, or { failed }.
exports.ask = async function (stage, part, connection, txn, raw, deadline) {
  try {
    const body = build_request(stage, connection, txn, facts_of(txn), raw)
    const until = deadline ?? performance.now() + this.cfg.milliseconds
    const said = await this.door.ask(`${txn.uuid}.${part}`, body, until)
    return parse_answer(said.status, said.type, said.body)
  } catch (error) {
    if (error instanceof DoorError || error instanceof Malformed) return { failed: error }
    throw error
  }
}

// --- what is made of an answer ------------------------------------------------------------------------------------------

function refusal({ code, text, subject, detail }, action) {
  const soft = code < 500
  const dsn = DSN.create(code, text, subject, detail)
  if (action === 'disconnect') return [soft ? DENYSOFTDISCONNECT : DENYDISCONNECT, dsn]
  return [soft ? DENYSOFT : DENY, dsn]
}

// The answer at RCPT: it lets the recipient be, or refuses him.
exports.handle_rcpt = function (plan, txn) {
  const changes = plan.raw || plan.header.length || plan.gone.length || plan.added.length
  if (plan.action === 'accept' && !changes) return []
  if (plan.reply) {
    note(this, txn, { msg: `recipient refused with ${plan.reply.code}` })
    return refusal(plan.reply, plan.action)
  }
  return this.handle_failure(new Malformed('it answers at RCPT what is for a message'), 'rcpt', txn)
}

// The answer to a message: { args, drop }.
exports.handle_data = function (plan, txn, sent, asked) {
  try {
    return obey(this, plan, txn, sent, asked)
  } catch (error) {
    if (error instanceof Malformed || error instanceof Unreadable) {
      return { args: this.handle_failure(error, 'data', txn) }
    }
    throw error
  }
}

function obey(plugin, plan, txn, sent, asked) {
  if (plan.reply) {
    note(plugin, txn, { fail: `refused with ${plan.reply.code}` })
    return { args: refusal(plan.reply, plan.action) }
  }
  if (plan.action === 'quarantine') {
    throw new Malformed('it leaves the quarantine to Haraka: set quarantine = "store" in addrauth\'s [policy]')
  }
  const header = header_after(plan, sent)
  const recipients = recipients_after(plan, asked, (path) => new asked[0].constructor(path))
  if (plan.action === 'discard' || !recipients.length) return dropped(plugin, txn)
  if (header) {
    put_header(txn, header)
    facts_of(txn).results = results_of(header, sent)
  }
  if (plan.gone.length || plan.added.length) txn.rcpt_to = recipients
  tell(plugin, txn, status_word(header))
  return { args: [] }
}

// By Haraka's own notes, for plugins that look at them; guard_queue does it.
function dropped(plugin, txn) {
  txn.notes.discard = true
  txn.notes.set?.('queue.wants', 'discard')
  note(plugin, txn, { fail: 'dropped' })
  return { args: [OK], drop: true }
}

function tell(plugin, txn, word) {
  if (word === 'VALIDKEY') return note(plugin, txn, { pass: word })
  if (word === 'INVALIDKEY' || word === 'UNUSABLE') return note(plugin, txn, { fail: word })
  note(plugin, txn, word ? { msg: word } : { skip: 'no status' })
}

function note(plugin, txn, result) {
  txn.results?.add(plugin, { ...result, emit: true })
}

// --- when addrauth cannot be asked --------------------------------------------------------------------------------------

// Defers, or lets the message through without what only an examined one may have.
exports.handle_failure = function (error, stage, txn) {
  const kind = error.kind === 'timeout' ? 'timeout' : 'error'
  note(this, txn, { err: error.message })
  if (error instanceof Unreadable) return later()
  if (!this.cfg.strip[kind]) return error.lasting ? [DENY, DSN.create(552, TOO_LARGE, 3, 4)] : later()
  if (stage === 'rcpt') return []
  // It brings somebody's next key: without addrauth it would be lost, or end in a mailbox.
  if (txn.header.header_list.some((entry) => field_name(entry) === NEW_KEY)) return later()
  if (!strip(txn, [KEY, STATUS, MARK])) return later()
  note(this, txn, { msg: 'passed without examination, X-Auth-Key stripped' })
  return []
}

// Takes the fields of these names off. False where that cannot be.
function strip(txn, names) {
  try {
    put_header(txn, without([...txn.header.header_list], names))
    return true
  } catch (ignore) {
    return false
  }
}
