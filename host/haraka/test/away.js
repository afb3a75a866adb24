'use strict'

const assert = require('node:assert/strict')
const net = require('node:net')
const { describe, it } = require('node:test')

const addrauth = require('..')
const { accept, action, Scanner, stripped } = require('../stand/scanner')
const { KEY, MESSAGE, REST, open, quiet, results, setting, text } = require('../stand/setting')
const { call, connection_with, plugin_with, settings } = require('../stand/transaction')

const NEGOTIATED = Buffer.from([0, 0, 0, 13, 0x4f, 0, 0, 0, 6, 0, 0, 0, 0x3d, 0, 0, 0, 0])

describe('while addrauth cannot be asked, a message', () => {
  const away = { error: () => ({ status: 401, json: {} }), timeout: () => 'hang' }

  it('is deferred', async () => {
    for (const script of [away.error, away.timeout, () => ({ body: KEY }), () => action('quarantine')]) {
      const { plugin } = await setting(script, { main: { timeout: 0.3 } })
      const connection = await connection_with(MESSAGE)
      const said = await call(plugin, 'examine', connection)
      assert.equal(said.code, DENYSOFT)
      assert.equal(said.reply.code, 451)
      assert.equal(results(connection).err.length, 1)
      quiet(connection, plugin)
      assert.equal((await call(plugin, 'guard_queue', connection)).code, DENYSOFT)
    }
  })

  it('passes without its key, and without a forged result, where fail = strip', async () => {
    for (const [script, more] of [
      [away.error, { main: { fail: 'strip' } }],
      [away.error, { defer: { error: false } }],
      [away.timeout, { main: { timeout: 0.3 }, defer: { timeout: false } }],
      [() => ({ status: 413, json: {} }), { main: { fail: 'strip' } }],
      [() => ({ json: { set: [{ path: '/rawMessage', value: 'QQ==' }] } }), { main: { fail: 'strip' } }],
    ]) {
      const { plugin } = await setting(script, more)
      const connection = await connection_with(MESSAGE)
      assert.deepEqual(await call(plugin, 'examine', connection), { code: undefined, reply: undefined })
      assert.equal(await text(connection.transaction), REST)
      assert.match(results(connection).msg[0], /passed without examination/)
      assert.equal((await call(plugin, 'guard_queue', connection)).code, undefined)
      quiet(connection, plugin)
    }
  })

  it('passes without fields behind a line that is none either, where fail = strip', async () => {
    const { plugin } = await setting(away.error, { main: { fail: 'strip' } })
    for (const how of [{}, { relaying: true }]) {
      const connection = await connection_with(MESSAGE.replace('X-Auth-Key:', 'junk\r\n: \r\nX-Auth-Key:'), how)
      assert.deepEqual(await call(plugin, 'examine', connection), { code: undefined, reply: undefined })
      assert.equal(await text(connection.transaction), REST)
    }
  })

  it('is deferred under fail = strip for another kind of failure', async () => {
    const { plugin } = await setting(away.error, { defer: { timeout: false } })
    assert.equal((await call(plugin, 'examine', await connection_with(MESSAGE))).code, DENYSOFT)
  })

  it('is deferred under fail = strip where it brings a next key, or has no other field', async () => {
    const { plugin } = await setting(away.error, { main: { fail: 'strip' } })
    for (const message of [`X-New-Auth-Key : ${KEY}\r\n${MESSAGE}`, `X-Auth-Key: ${KEY}\r\n\r\nbody\r\n`]) {
      const connection = await connection_with(message)
      assert.equal((await call(plugin, 'examine', connection)).code, DENYSOFT)
      quiet(connection, plugin)
    }
  })

  it('that is too large for it is refused for good', async () => {
    const { plugin } = await setting(() => ({ status: 413, json: {} }))
    const said = await call(plugin, 'examine', await connection_with(MESSAGE))
    assert.equal(said.code, DENY)
    assert.equal(said.reply.code, 552)
  })
})

describe('the plugin', () => {
  it('answers each hook once, whatever breaks', async () => {
    const { plugin } = await setting(accept, { main: { fail: 'strip' } })
    const faults = [
      (connection) => (connection.transaction.message_stream = null),
      (connection) => (connection.transaction.rcpt_to = null),
      (connection) => (connection.remote = null),
      (connection) =>
        (connection.transaction.message_stream.pipe = () =>
          connection.transaction.message_stream.emit('error', new Error(KEY))),
    ]
    for (const fault of faults) {
      const connection = await connection_with(MESSAGE)
      fault(connection)
      let calls = 0
      const said = await new Promise((resolve) => {
        plugin.examine((code) => {
          calls += 1
          resolve(code)
        }, connection)
      })
      assert.equal(said, DENYSOFT)
      assert.equal(calls, 1)
      quiet(connection, plugin)
    }
    const { plugin: asks } = await setting(accept, { main: { rcpt: true } })
    const connection = await connection_with(MESSAGE)
    connection.transaction.rcpt_to = null
    assert.equal((await call(asks, 'ask_rcpt', connection)).code, DENYSOFT)
    assert.match(asks.logged.at(-1), /a fault, TypeError, at .*request\.js/)
  })

  it('survives what comes after it', async () => {
    const { plugin } = await setting(accept)
    const connection = await connection_with(MESSAGE)
    plugin.examine(() => {
      throw new TypeError(KEY)
    }, connection)
    while (!plugin.logged.some((line) => line.includes('a fault, TypeError, at '))) {
      await new Promise((resolve) => setTimeout(resolve, 10))
    }
    quiet(connection, plugin)
  })

  it('defers a message that Haraka does not read in time', async () => {
    const { plugin } = await setting(accept, { main: { timeout: 0.2, fail: 'strip' } })
    const connection = await connection_with(MESSAGE)
    connection.transaction.message_stream.pipe = (sink) => sink
    assert.equal((await call(plugin, 'examine', connection)).code, DENYSOFT)
    assert.match(results(connection).err[0], /in time/)
  })

  it('defers where a version of Haraka keeps the header elsewhere', async () => {
    const { plugin } = await setting((body) => stripped(body, 'VALIDKEY'))
    const connection = await connection_with(MESSAGE)
    const { message_stream } = connection.transaction
    message_stream.headers = [...message_stream.headers]
    assert.equal((await call(plugin, 'examine', connection)).code, DENYSOFT)
  })

  it('does nothing for a client who has gone, and calls nobody back', async () => {
    let held
    const { plugin } = await setting(() => (held?.(), accept()))
    assert.equal((await call(plugin, 'examine', { transaction: null })).code, undefined)
    assert.equal((await call(plugin, 'guard_queue', {})).code, undefined)
    assert.equal((await call(plugin, 'ask_rcpt', undefined)).code, undefined)
    assert.equal((await call(plugin, 'note_mail', undefined)).code, undefined)
    assert.equal((await call(plugin, 'note_rcpt', {}, [])).code, undefined)
    const connection = await connection_with(MESSAGE)
    const asked = new Promise((resolve) => (held = resolve))
    let called = false
    plugin.examine(() => (called = true), connection)
    await asked
    connection.transaction = null
    await new Promise((resolve) => setTimeout(resolve, 50))
    assert.equal(called, false)
  })

  it('takes new settings, and keeps the former ones where the new ones cannot be', async () => {
    const scanners = [await new Scanner(accept).start(), await new Scanner(accept).start()]
    let ini = settings(scanners[0])
    const plugin = plugin_with(() => ini)
    open.push(
      () => scanners[0].stop(),
      () => scanners[1].stop(),
      () => plugin.shutdown(),
    )
    await call(plugin, 'examine', await connection_with(MESSAGE))
    ini = { main: { port: 'x' } }
    plugin.changed()
    assert.match(plugin.logged.at(-1), /main.port is x.*the former settings stay/)
    await call(plugin, 'examine', await connection_with(MESSAGE))
    ini = settings(scanners[1])
    plugin.changed()
    await call(plugin, 'examine', await connection_with(MESSAGE))
    assert.deepEqual(
      scanners.map((one) => one.asked.length),
      [2, 1],
    )
  })

  it('does not start with settings that cannot be', () => {
    assert.throws(() => plugin_with(() => ({ main: {} })), /main.port or main.unix_socket/)
  })

  it('ends where it never asked anybody', () => {
    addrauth.shutdown.call({})
  })

  it('tells the administrator that a milter listens there', async () => {
    const milter = net.createServer((socket) => {
      socket.on('error', () => {})
      socket.on('data', ([first]) => (first ? socket.destroy() : socket.write(NEGOTIATED)))
    })
    await new Promise((resolve) => milter.listen(0, '127.0.0.1', resolve))
    open.push(() => new Promise((resolve) => milter.close(resolve)))
    const plugin = plugin_with(() => settings({ port: milter.address().port }))
    const connection = await connection_with(MESSAGE)
    assert.equal((await call(plugin, 'examine', connection)).code, DENYSOFT)
    assert.match(plugin.logged.at(-1), /speaks the milter protocol and not HTTP/)
    assert.match(results(connection).err[0], /speaks the milter protocol and not HTTP/)
  })

  it('stands before what queues, and before what ends MAIL or RCPT', () => {
    const { hooks } = plugin_with(() => ({ main: { port: 1 } }))
    assert.deepEqual(Object.keys(hooks), ['mail', 'rcpt', 'rcpt_ok', 'data_post', 'queue', 'queue_outbound'])
  })
})
