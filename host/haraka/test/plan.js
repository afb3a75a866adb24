'use strict'

// Whatever a message is made of, and in whatever form addrauth answers: what Haraka hands on is the reference plan, octet
// for octet. The plan: what Haraka would have handed on, without the lines that are no fields and the fields that go, and
// with one on top.

const assert = require('node:assert/strict')
const { it } = require('node:test')

const { parse_answer } = require('../lib/answer')
const { header_after } = require('../lib/apply')
const { KEY, STATUS, field_name, scan, strip } = require('../lib/header')
const { keep_fields, put_header, read } = require('../lib/message')
const { connection_with, handed_on } = require('../stand/transaction')

const MESSAGES = 400
const FIELD = 'X-Auth-Key-Status: VALIDKEY; by=mx\n'

// A small generator of numbers (xorshift32): the same messages in every run.
function dice(seed) {
  let state = seed
  return (bound) => {
    state ^= state << 13
    state ^= state >>> 17
    state ^= state << 5
    return (state >>> 0) % bound
  }
}

const NAMES = ['X-Auth-Key', 'x-auth-key ', 'X-AUTH-KEY \t', 'X-Auth-Key-Status', 'x-auth-key-status ', 'X-Auth-Keys']
const OTHERS = ['From', 'Subject', 'Received', 'subject', 'To ', 'Constructor', '.Dot']
const VALUES = ['', ' ', ' k', 'k', ' caf\xc3\xa9', ' \xe9', '\tk \t', ' a:b', ' "\\', ' .']
const FOLDS = ['', '', '\r\n k', '\r\n\t', '\r\n \r\n\tk', '\r\n X-Auth-Key: k']
// Lines that are no fields, of which some are to Haraka.
const JUNK = [
  'junk',
  '>From a@b.test 1:2',
  'From a@b.test 1:2',
  ':',
  ': k',
  'X-Auth-Key',
  'X-Auth-Key\r',
  '\xc4: k',
  '\0: k',
]
const BODIES = ['', 'b', '.\r\n', '\xe9\xff\0\r\n', 'X-Auth-Key: k\r\n', '..\r\n.x\r\n']

// A message, and the same without lines that are no fields.
function message(roll) {
  const one = (list) => list[roll(list.length)]
  const fields = ['Received: by mx\r\n\tid 1\r\n']
  const lines = [...fields]
  for (let left = roll(9); left > 0; left--) {
    fields.push(`${one(roll(2) ? NAMES : OTHERS)}:${one(VALUES)}${one(FOLDS)}\r\n`)
    lines.push(fields.at(-1))
    if (!roll(4)) lines.push(`${one(JUNK)}${one(FOLDS)}\r\n`)
  }
  const body = `\r\n${one(BODIES)}${one(BODIES)}`
  return { octets: lines.join('') + body, clean: fields.join('') + body }
}

// The two forms of an answer, as addrauth would make them of what it was shown.
function answers(sent) {
  const whole = Buffer.concat([Buffer.from(FIELD), strip(sent.raw, [KEY, STATUS])])
  const doomed = sent.list.flatMap((entry, at) => ([KEY, STATUS].includes(field_name(entry)) ? [at] : []))
  const [name, value] = FIELD.trimEnd().split(/:(.*)/)
  const single = {
    add: [{ path: '/message/headers', value: { name, value }, index: 0 }],
    delete: doomed.reverse().map((at) => ({ path: `/message/headers/${at + 1}` })),
  }
  return { forms: [{ set: [{ path: '/rawMessage', value: whole.toString('base64') }] }, single], whole }
}

// The transaction of a message, and what addrauth is shown of it.
async function shown(octets) {
  const { transaction: txn } = await connection_with(octets)
  keep_fields(txn)
  return { txn, sent: await read(txn) }
}

it('every message is handed on as the reference plan says', async (context) => {
  // Haraka prints lines of a header that it does not understand.
  context.mock.method(console, 'log', () => {})
  const roll = dice(20261130)
  let spoiled = 0
  for (let number = 0; number < MESSAGES; number++) {
    const { octets, clean } = message(roll)
    const { sent: first } = await shown(octets)
    assert.equal(first.raw.toString('latin1'), (await shown(clean)).sent.raw.toString('latin1'), octets)
    assert.equal(scan(first.raw).ending, 'blank', octets)
    if (octets !== clean) spoiled += 1
    const { forms, whole } = answers(first)
    for (const form of forms) {
      const { txn, sent } = await shown(octets)
      const plan = parse_answer(200, 'application/json', Buffer.from(JSON.stringify(form)))
      put_header(txn, header_after(plan, sent))
      const handed = (await handed_on(txn)).toString('latin1')
      assert.equal(handed, whole.toString('latin1').replace(FIELD, FIELD.replace('\n', '\r\n')), octets)
      // And the indexes agree with a header that Haraka would have parsed of it.
      const again = new txn.header.constructor()
      again.parse([...txn.header.header_list])
      assert.deepEqual(txn.header.headers, again.headers, octets)
      assert.deepEqual(txn.header.headers_decoded, again.headers_decoded, octets)
    }
  }
  assert.ok(spoiled > MESSAGES / 4 && spoiled < MESSAGES)
})
