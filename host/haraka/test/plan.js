'use strict'

// Whatever a message is made of, and in whatever form addrauth answers: what Haraka hands on is the reference plan, octet
// for octet. The plan: what Haraka would have handed on, without the fields that go, and with one on top.

const assert = require('node:assert/strict')
const { it } = require('node:test')

const { parse_answer } = require('../lib/answer')
const { header_after } = require('../lib/apply')
const { KEY, STATUS, field_name, strip } = require('../lib/header')
const { put_header, read } = require('../lib/message')
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
const BODIES = ['', 'b', '.\r\n', '\xe9\xff\0\r\n', 'X-Auth-Key: k\r\n', '..\r\n.x\r\n']

function message(roll) {
  const one = (list) => list[roll(list.length)]
  let text = 'Received: by mx\r\n\tid 1\r\n'
  for (let left = roll(9); left > 0; left--) {
    text += `${one(roll(2) ? NAMES : OTHERS)}:${one(VALUES)}${one(FOLDS)}\r\n`
    // A line that is no field, now and then.
    if (!roll(40)) text += 'junk\r\n'
  }
  return `${text}\r\n${one(BODIES)}${one(BODIES)}`
}

// The two forms of an answer, as addrauth would make them of what it was shown.
function answers(sent) {
  const whole = Buffer.concat([Buffer.from(FIELD), strip(sent.raw, [KEY, STATUS])])
  const forms = [{ set: [{ path: '/rawMessage', value: whole.toString('base64') }] }]
  if (sent.list.every((entry) => field_name(entry) !== null)) {
    const doomed = sent.list.flatMap((entry, at) => ([KEY, STATUS].includes(field_name(entry)) ? [at] : []))
    const [name, value] = FIELD.trimEnd().split(/:(.*)/)
    forms.push({
      add: [{ path: '/message/headers', value: { name, value }, index: 0 }],
      delete: doomed.reverse().map((at) => ({ path: `/message/headers/${at + 1}` })),
    })
  }
  return { forms, whole }
}

it('every message is handed on as the reference plan says', async (context) => {
  // Haraka prints lines of a header that it does not understand.
  context.mock.method(console, 'log', () => {})
  const roll = dice(20261130)
  let single = 0
  for (let number = 0; number < MESSAGES; number++) {
    const octets = message(roll)
    const first = await read((await connection_with(octets)).transaction)
    const { forms, whole } = answers(first)
    single += forms.length - 1
    for (const form of forms) {
      const { transaction: txn } = await connection_with(octets)
      const sent = await read(txn)
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
  assert.ok(single > MESSAGES / 2)
})
