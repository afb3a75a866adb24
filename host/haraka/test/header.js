'use strict'

const assert = require('node:assert/strict')
const { existsSync, readFileSync } = require('node:fs')
const path = require('node:path')
const { describe, it } = require('node:test')

const { KEY, field_name, scan, split, strip, without } = require('../lib/header')
const { put_header } = require('../lib/message')
const { connection_with, handed_on } = require('../stand/transaction')

// Beside the sources; not in the package.
const VECTORS = path.resolve(__dirname, '..', '..', '..', 'tests', 'cases', 'strip.json')
const octets = (text) => Buffer.from(text, 'latin1')

describe('the scanner', () => {
  it('reads headers as addrauth does, on the same vectors', { skip: !existsSync(VECTORS) }, () => {
    const { vectors } = JSON.parse(readFileSync(VECTORS))
    assert.ok(vectors.length > 50)
    for (const { what, message, stripped } of vectors) {
      assert.equal(strip(octets(message), [KEY]).toString('latin1'), stripped, what)
    }
  })

  it('says what ended a header', () => {
    for (const [text, ending, end] of [
      ['A: b\r\n\r\nc', 'blank', 6],
      ['A: b\r\njunk\r\n', 'junk', 6],
      ['A: b\r\n c', 'message', 8],
      ['', 'message', 0],
    ]) {
      const block = scan(octets(text))
      assert.deepEqual([block.ending, block.end], [ending, end])
    }
  })

  it('begins a field by the grammar alone', () => {
    for (const [line, name] of [
      ['A:', 'a'],
      ['~!#: b', '~!#'],
      ['A \t: b', 'a'],
      ['From a@one.test: x', null],
      [':', null],
      [' A: b', null],
      ['A\x7f: b', null],
      ['Ä: b', null],
      ['A\r: b', null],
      ['A', null],
    ]) {
      assert.equal(field_name(line), name, JSON.stringify(line))
    }
  })

  it('parts a message into the entries that Haraka keeps', () => {
    assert.deepEqual(split(octets('A: b\r\n\tc\r\njunk\r\nD : e\r\n\r\nbody')), {
      list: ['A: b\n\tc\n', 'junk\n', 'D : e\n'],
      body: 25,
    })
    assert.equal(split(octets(' folded\r\nA: b\r\n\r\n')), null)
    assert.equal(split(octets('A: b\r\n')), null)
    assert.deepEqual(split(octets('\nbody')), { list: [], body: 1 })
  })

  it('takes a field off a list by each of its spellings, behind a line of junk too', () => {
    const list = ['A: b\n', 'X-Auth-Key : k\n', 'junk\n', 'x-auth-KEY\t:\n k\n', 'X-Auth-Keys: k\n']
    assert.deepEqual(without(list, [KEY]), ['A: b\n', 'junk\n', 'X-Auth-Keys: k\n'])
  })
})

describe('a transaction without its key fields', { skip: !existsSync(VECTORS) }, () => {
  const { vectors } = existsSync(VECTORS) ? JSON.parse(readFileSync(VECTORS)) : { vectors: [] }
  // Haraka itself keeps what came as text, so that octets which are no UTF-8 are U+FFFD, and folds at a bare CR.
  const as_haraka = (text) =>
    Buffer.from(
      octets(text)
        .toString('utf8')
        .replace(/\r(?!\n)/g, '\r\n '),
    )

  for (const { what, message, stripped } of vectors) {
    // Without an empty line Haraka ends the header where it likes; a key behind junk is in its header, and goes too.
    if (!/\r\n\r\n/.test(message) || /junk|name|header/.test(what) || /bare/.test(what)) continue
    it(`is what addrauth leaves: ${what}`, async () => {
      const { transaction: txn } = await connection_with(`Received: by mx\r\n${message}`)
      put_header(txn, without([...txn.header.header_list], [KEY]))
      const handed = await handed_on(txn)
      const [head, ...body] = stripped.split(/(?<=^|\r\n)\r\n/)
      const expected = Buffer.concat([
        Buffer.from('Received: by mx\r\n'),
        as_haraka(head),
        Buffer.from('\r\n'),
        octets(body.join('\r\n')),
      ])
      assert.equal(handed.toString('latin1'), expected.toString('latin1'))
      assert.deepEqual(txn.header.get_all('x-auth-key'), [])
    })
  }
})
