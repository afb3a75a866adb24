'use strict'

const assert = require('node:assert/strict')
const { mkdtempSync, rmSync, writeFileSync } = require('node:fs')
const { tmpdir } = require('node:os')
const path = require('node:path')
const { describe, it } = require('node:test')

const { parse_config } = require('../lib/config')

const config = (main, more = {}) => parse_config({ main, ...more }, 30)

describe('addrauth.ini', () => {
  it('needs no more than where addrauth listens', () => {
    assert.deepEqual(config({ port: 8893 }), {
      options: { host: '127.0.0.1', port: 8893 },
      where: 'http://127.0.0.1:8893',
      tls: false,
      path: '/draft-01',
      token: null,
      milliseconds: 20000,
      stages: ['data'],
      strip: { error: false, timeout: false },
    })
    assert.deepEqual(config({ unix_socket: '/run/a' }).options, { socketPath: '/run/a' })
    assert.equal(config({ host: '::1', port: 1 }).where, 'http://[::1]:1')
    assert.deepEqual(config({ port: 1, rcpt: true }).stages, ['rcpt', 'data'])
  })

  it('says in words what cannot be', () => {
    for (const [main, more, words] of [
      [{}, {}, /main.port or main.unix_socket/],
      [{ port: 'milter' }, {}, /main.port is milter/],
      [{ port: 70000 }, {}, /main.port is 70000/],
      [{ port: 1, scheme: 'ftp' }, {}, /http or https/],
      [{ port: 1, path: 'no slash' }, {}, /main.path/],
      [{ port: 1, timeout: 'soon' }, {}, /must be seconds/],
      [{ port: 1, fail: 'open' }, {}, /defer, or strip/],
      [{ port: 1 }, { auth: { token: 'a b' } }, /bearer token/],
      [{ port: 1 }, { auth: { token_file: '/nowhere/token' } }, /auth.token_file: .*ENOENT/],
    ]) {
      assert.throws(() => config(main, more), words)
    }
  })

  it('answers before the clock of Haraka does', () => {
    assert.equal(parse_config({ main: { port: 1, timeout: 300 } }, 30).milliseconds, 28000)
    assert.equal(parse_config({ main: { port: 1 } }, 10).milliseconds, 8000)
    assert.equal(parse_config({ main: { port: 1 } }, 1).milliseconds, 1000)
    assert.equal(parse_config({ main: { port: 1, timeout: 300 } }, 0).milliseconds, 28000)
  })

  it('takes each spelling of letting mail through without its key', () => {
    assert.deepEqual(config({ port: 1, fail: 'strip' }).strip, { error: true, timeout: true })
    assert.deepEqual(config({ port: 1 }, { defer: { error: false } }).strip, { error: true, timeout: false })
    assert.deepEqual(config({ port: 1 }, { defer: { timeout: false } }).strip, { error: false, timeout: true })
  })

  it('reads the token and the certificate from files', () => {
    const folder = mkdtempSync(path.join(tmpdir(), 'addrauth-'))
    try {
      writeFileSync(path.join(folder, 'token'), ' secret\n')
      writeFileSync(path.join(folder, 'ca.pem'), 'PEM')
      const cfg = config(
        { port: 1, scheme: 'https' },
        {
          auth: { token_file: path.join(folder, 'token') },
          tls: { ca_file: path.join(folder, 'ca.pem'), servername: 'mx.test' },
        },
      )
      assert.equal(cfg.token, 'secret')
      assert.equal(cfg.tls, true)
      assert.equal(cfg.options.ca.toString(), 'PEM')
      assert.equal(cfg.options.servername, 'mx.test')
      assert.equal(cfg.options.rejectUnauthorized, true)
    } finally {
      rmSync(folder, { recursive: true })
    }
  })
})
