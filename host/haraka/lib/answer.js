'use strict'

// What is answered: read whole, or not at all. Nothing of an answer stands in an error, since it may hold a message.

const ACTIONS = new Set(['accept', 'reject', 'discard', 'quarantine', 'disconnect'])
// Operations in an answer.
const MOST_OPERATIONS = 1000
// Characters of a reply to the client.
const MOST_TEXT = 400

class Malformed extends Error {}
exports.Malformed = Malformed

const is_object = (value) => typeof value === 'object' && value !== null && !Array.isArray(value)

// The JSON of a body. The error of JSON.parse quotes what it read.
function parse_json(body) {
  try {
    return JSON.parse(body.toString('utf8'))
  } catch (ignore) {
    throw new Malformed('its answer is no JSON')
  }
}

// What an answer asks for: { action, reply, raw, header, gone, added }. reply: { code, enhanced, text } or null. raw: a whole
// message, or null. header: changes of single fields, in the order in which they count. gone: positions in the envelope, each
// counted among those that the ones before it left. added: addresses.
exports.parse_answer = function (status, type, body) {
  const plan = { action: 'accept', reply: null, raw: null, header: [], gone: [], added: [] }
  if (status === 204) return plan
  if (!/^application\/json\b/i.test(type ?? '')) throw new Malformed('its answer is not application/json')
  const answer = parse_json(body)
  if (!is_object(answer)) throw new Malformed('its answer is no object')
  for (const member of Object.keys(answer)) {
    if (!['set', 'add', 'delete'].includes(member)) throw new Malformed('its answer has an unknown member')
  }
  const reply = {}
  const lists = ['set', 'add', 'delete'].map((member) => operations(answer[member]))
  if (lists.reduce((sum, list) => sum + list.length, 0) > MOST_OPERATIONS) throw new Malformed('its answer is too long')
  for (const operation of lists[0]) set(plan, reply, operation)
  for (const operation of lists[1]) add(plan, operation)
  for (const operation of lists[2]) remove(plan, operation)
  plan.reply = parse_reply(plan.action, reply)
  return plan
}

function operations(list) {
  if (list === undefined || list === null) return []
  if (!Array.isArray(list) || !list.every((one) => is_object(one) && typeof one.path === 'string')) {
    throw new Malformed('its answer holds no list of operations')
  }
  return list
}

const HEADER = /^\/message\/headers\/(\d{1,6})(\/value)?$/
const RECIPIENT = /^\/envelope\/to\/(\d{1,6})$/

function set(plan, reply, { path, value }) {
  const header = HEADER.exec(path)
  if (path === '/action') {
    if (!ACTIONS.has(value)) throw new Malformed('it answers an unknown action')
    plan.action = value
  } else if (path === '/response') {
    if (value !== null && !is_object(value)) throw new Malformed('its response is no object')
    Object.assign(reply, value)
  } else if (/^\/response\/(code|enhancedCode|message)$/.test(path)) {
    reply[path.slice('/response/'.length)] = value
  } else if (path === '/rawMessage') {
    plan.raw = parse_raw(value)
  } else if (header) {
    const field = header[2] ? { value: parse_value(value) } : parse_field(value)
    plan.header.push({ kind: 'set', at: Number(header[1]), ...field })
  } else {
    throw new Malformed('it sets what this plugin cannot change')
  }
}

function add(plan, { path, value, index }) {
  if (index !== undefined && index !== null && !(Number.isInteger(index) && index >= 0)) {
    throw new Malformed('it adds at a place that is none')
  }
  if (path === '/message/headers') {
    plan.header.push({ kind: 'add', at: index ?? null, ...parse_field(value) })
  } else if (path === '/envelope/to') {
    if (!is_object(value) || typeof value.address !== 'string') throw new Malformed('it adds a recipient that is none')
    plan.added.push(value.address)
  } else {
    throw new Malformed('it adds what this plugin cannot')
  }
}

function remove(plan, { path }) {
  const header = HEADER.exec(path)
  const recipient = RECIPIENT.exec(path)
  if (header && !header[2]) {
    plan.header.push({ kind: 'delete', at: Number(header[1]) })
  } else if (recipient) {
    plan.gone.push(Number(recipient[1]))
  } else {
    throw new Malformed('it deletes what this plugin cannot')
  }
}

// Base64 of a message. Node decodes anything: what it does not give back was none.
function parse_raw(value) {
  const raw = typeof value === 'string' ? Buffer.from(value, 'base64') : null
  if (!raw?.length || raw.toString('base64') !== value) throw new Malformed('its message is no base64')
  return raw
}

function parse_field(value) {
  if (!is_object(value) || typeof value.name !== 'string' || !/^[!-9;-~]+$/.test(value.name)) {
    throw new Malformed('it names a header field that is none')
  }
  return { name: value.name, value: parse_value(value.value) }
}

// A field's value as it stands behind the colon: a line break is a fold, or it would begin another field.
function parse_value(value) {
  if (typeof value !== 'string') throw new Malformed('it gives a header field no value')
  const text = value.replace(/\r\n/g, '\n')
  if (/[\r\0]|\n(?![ \t])/.test(text)) throw new Malformed('a header field that it writes is more than one')
  return /^[ \t\n]/.test(text) ? text : ` ${text}`
}

// What the client is told where the message is refused; the draft's 550 where the answer says nothing.
function parse_reply(action, { code, enhancedCode, message }) {
  if (action !== 'reject' && action !== 'disconnect') return null
  const said = code ?? (action === 'reject' ? 550 : 421)
  if (!Number.isInteger(said) || said < 400 || said > 599)
    throw new Malformed('it refuses with a code that refuses nothing')
  const enhanced = enhancedCode ?? (said < 500 ? '4.7.1' : '5.7.1')
  const parts = /^([45])\.(\d{1,3})\.(\d{1,3})$/.exec(enhanced)
  if (!parts || parts[1] !== String(said)[0]) throw new Malformed('its enhanced code does not go with its code')
  const text = typeof message === 'string' ? message : 'Rejected by policy'
  return {
    code: said,
    subject: Number(parts[2]),
    detail: Number(parts[3]),
    text: text.replace(/[^\x20-\x7e]+/g, ' ').slice(0, MOST_TEXT),
  }
}
