'use strict'

const assert = require('node:assert/strict')
const { describe, it } = require('node:test')

const { Malformed, parse_answer } = require('../lib/answer')
const { header_after, recipients_after, status_word } = require('../lib/apply')

const JSON_TYPE = 'application/json; charset=utf-8'
const parse = (answer) => parse_answer(200, JSON_TYPE, Buffer.from(JSON.stringify(answer)))
const set = (...pairs) => parse({ set: pairs.map(([path, value]) => ({ path, value })) })
const base64 = (text) => Buffer.from(text, 'latin1').toString('base64')

describe('an answer', () => {
  it('that asks for nothing changes nothing', () => {
    const nothing = { action: 'accept', reply: null, raw: null, header: [], gone: [], added: [] }
    assert.deepEqual(parse_answer(204, undefined, Buffer.alloc(0)), nothing)
    assert.deepEqual(parse({}), nothing)
    assert.deepEqual(parse({ set: null, add: [], delete: null }), nothing)
  })

  it('refuses with the code, the enhanced code and the text that it has', () => {
    const reply = set(
      ['/action', 'reject'],
      ['/response', { code: 451, enhancedCode: '4.7.5', message: 'later' }],
    ).reply
    assert.deepEqual(reply, { code: 451, subject: 7, detail: 5, text: 'later' })
    assert.deepEqual(set(['/action', 'reject']).reply, {
      code: 550,
      subject: 7,
      detail: 1,
      text: 'Rejected by policy',
    })
    assert.equal(set(['/action', 'disconnect']).reply.code, 421)
    assert.equal(set(['/action', 'reject'], ['/response', null]).reply.code, 550)
    const parts = set(
      ['/action', 'reject'],
      ['/response/code', 452],
      ['/response/message', 'one\r\n250 two\u00e9'],
    ).reply
    assert.equal(parts.code, 452)
    assert.equal(parts.text, 'one 250 two ')
    assert.equal(set(['/action', 'reject'], ['/response/message', 'x'.repeat(1000)]).reply.text.length, 400)
    assert.equal(set(['/response', { code: 250 }]).reply, null)
  })

  it('is understood whole or not at all, and its error holds nothing of it', () => {
    const key = 'Vb3kQ9w2Zr7tYp0sXn4mLc8dHf1gJa6eUi5oRk2y'
    const wrong = [
      [200, 'text/html', key],
      [200, undefined, '{}'],
      [200, JSON_TYPE, `X-Auth-Key: ${key}`],
      [200, JSON_TYPE, `[${JSON.stringify(key)}]`],
      [200, JSON_TYPE, 'null'],
      ...[
        { actions: key },
        { set: key },
        { set: [key] },
        { set: [{ value: key }] },
        { set: [{ path: '/action', value: key }] },
        { set: [{ path: '/action', value: 'continue' }] },
        { set: [{ path: `/${key}`, value: 1 }] },
        { set: [{ path: '/envelope/from', value: key }] },
        { set: [{ path: '/response', value: key }] },
        { set: [{ path: '/rawMessage', value: `${key}!` }] },
        { set: [{ path: '/rawMessage', value: '' }] },
        { set: [{ path: '/rawMessage', value: 7 }] },
        { set: [{ path: '/message/headers/0', value: { name: 'A B', value: key } }] },
        { set: [{ path: '/message/headers/0', value: key }] },
        { set: [{ path: '/message/headers/0/value', value: `a\r\nX-Auth-Key: ${key}` }] },
        { set: [{ path: '/message/headers/0/value', value: 'a\0' }] },
        { set: [{ path: '/message/headers/0/value', value: 'a\rb' }] },
        { set: [{ path: '/message/headers/0/value' }] },
        { set: [{ path: '/message/headers/-', value: 'a' }] },
        { add: [{ path: '/message/headers', value: { name: 'A', value: 'b' }, index: -1 }] },
        { add: [{ path: '/message/headers', value: { name: 'A' }, index: 0 }] },
        { add: [{ path: '/envelope/to', value: key }] },
        { add: [{ path: '/message', value: key }] },
        { delete: [{ path: '/message/headers/0/value' }] },
        { delete: [{ path: '/envelope/from' }] },
        { delete: Array.from({ length: 1001 }, () => ({ path: '/envelope/to/0' })) },
        {
          set: [
            { path: '/action', value: 'reject' },
            { path: '/response', value: { code: 250, message: key } },
          ],
        },
        {
          set: [
            { path: '/action', value: 'reject' },
            { path: '/response', value: { code: '550' } },
          ],
        },
        {
          set: [
            { path: '/action', value: 'reject' },
            { path: '/response', value: { code: 550, enhancedCode: '4.7.1' } },
          ],
        },
        {
          set: [
            { path: '/action', value: 'reject' },
            { path: '/response', value: { enhancedCode: key } },
          ],
        },
      ].map((answer) => [200, JSON_TYPE, JSON.stringify(answer)]),
    ]
    for (const [status, type, body] of wrong) {
      assert.throws(
        () => parse_answer(status, type, Buffer.from(body)),
        (error) => error instanceof Malformed && !error.message.includes(key.slice(0, 8)),
        body,
      )
    }
  })
})

describe('the header after an answer', () => {
  const raw = Buffer.from('A: a\r\nX-K: 1\r\nx-k: 2\r\n\r\nbody \xe9', 'latin1')
  const sent = { raw, list: ['A: a\n', 'X-K: 1\n', 'x-k: 2\n'], body: 24 }

  it('is the whole message that it gives, if that has the same body', () => {
    assert.deepEqual(header_after(set(['/rawMessage', base64('N: n\n\tm\nA: a\n\nbody \xe9')]), sent), [
      'N: n\n\tm\n',
      'A: a\n',
    ])
    assert.equal(header_after(parse({}), sent), null)
    assert.throws(() => header_after(set(['/rawMessage', base64('A: a\r\n\r\nother')]), sent), /changes the body/)
    assert.throws(() => header_after(set(['/rawMessage', base64('A: a\r\n')]), sent), /no header that ends/)
  })

  it('has what it sets, adds and deletes, each counted after the one before', () => {
    const plan = parse({
      delete: [{ path: '/message/headers/3' }, { path: '/message/headers/2' }],
      add: [
        { path: '/message/headers', value: { name: 'S', value: 'v\r\n\tw' }, index: 0 },
        { path: '/message/headers', value: { name: 'Z', value: ' z' } },
      ],
      set: [
        { path: '/message/headers/0/value', value: 'b' },
        { path: '/message/headers/1', value: { name: 'x-K', value: '3' } },
      ],
    })
    assert.deepEqual(header_after(plan, sent), ['S: v\n\tw\n', 'A: b\n', 'Z: z\n'])
    assert.deepEqual(sent.list.length, 3)
  })

  it('is refused where nobody knows what is counted', () => {
    const deletion = (at) => parse({ delete: [{ path: `/message/headers/${at}` }] })
    assert.throws(() => header_after(deletion(3), sent), /more header fields than there are/)
    assert.throws(
      () => header_after(set(['/message/headers/0', { name: 'B', value: 'b' }]), sent),
      /gives a header field another name/,
    )
    const addition = parse({ add: [{ path: '/message/headers', value: { name: 'A', value: 'b' }, index: 4 }] })
    assert.throws(() => header_after(addition, sent), /more header fields than there are/)
  })

  it('tells the word of addrauth, and nothing else of it', () => {
    assert.equal(status_word(['A: b\n', 'X-Auth-Key-Status: VALIDKEY; address=a@b\n']), 'VALIDKEY')
    for (const list of [null, [], ['A: b\n'], ['X-Auth-Key-Status: valid\n'], ['X-Auth-Key-Status: VALIDkey\n']]) {
      assert.equal(status_word(list), null)
    }
  })
})

describe('the recipients after an answer', () => {
  const make = (path) => {
    if (!/^<[^<>\s]+@[^<>\s]+>$/.test(path)) throw new Error(path)
    return path
  }

  it('are those that it leaves and those that it adds', () => {
    const plan = parse({
      delete: [{ path: '/envelope/to/2' }, { path: '/envelope/to/0' }],
      add: [{ path: '/envelope/to', value: { address: 'bob+spam@b.test', parameters: {} } }],
    })
    assert.deepEqual(recipients_after(plan, ['a', 'b', 'c'], make), ['b', '<bob+spam@b.test>'])
    const shrinking = parse({ delete: [{ path: '/envelope/to/0' }, { path: '/envelope/to/1' }] })
    assert.deepEqual(recipients_after(shrinking, ['a', 'b', 'c', 'd'], make), ['b', 'd'])
  })

  it('are refused where one of them is none', () => {
    const beyond = parse({ delete: [{ path: '/envelope/to/1' }] })
    assert.throws(() => recipients_after(beyond, ['a'], make), /more recipients than there are/)
    const none = parse({ add: [{ path: '/envelope/to', value: { address: 'a b> c' } }] })
    assert.throws(() => recipients_after(none, ['a'], make), /recipient that is none/)
  })
})
