'use strict'

const assert = require('node:assert/strict')
const { describe, it } = require('node:test')

const { accept, action, reject, stripped } = require('../stand/scanner')
const { KEY, MESSAGE, REST, quiet, results, setting, text } = require('../stand/setting')
const { call, connection_with } = require('../stand/transaction')

describe('a message', () => {
  it('is sent as Haraka would hand it on, with what Haraka knows of it', async () => {
    const { scanner, plugin } = await setting(accept)
    const connection = await connection_with(MESSAGE, { to: ['bob@recv.test', 'carol@recv.test'] })
    const { transaction: txn } = connection
    Object.assign(connection, {
      notes: { ...connection.notes, auth_user: 'alice@send.test', auth_method: 'PLAIN' },
      tls: { enabled: true, cipher: { version: 'TLSv1.3', standardName: 'TLS_AES_256_GCM_SHA384' } },
    })
    await call(plugin, 'note_mail', connection, [txn.mail_from, { SIZE: '700', SMTPUTF8: null }])
    await call(plugin, 'note_rcpt', connection, [txn.rcpt_to[1], { NOTIFY: 'NEVER' }])
    assert.deepEqual(await call(plugin, 'examine', connection), { code: undefined, reply: undefined })
    const [{ body, headers }] = scanner.asked
    assert.equal(Buffer.from(body.rawMessage, 'base64').toString('latin1'), MESSAGE)
    assert.equal(headers['x-mta-hooks-request-id'], `${txn.uuid}.data`)
    assert.deepEqual(body.envelope, {
      from: { address: 'alice@send.test', parameters: { SIZE: '700', SMTPUTF8: '' } },
      to: [
        { address: 'bob@recv.test', parameters: {} },
        { address: 'carol@recv.test', parameters: { NOTIFY: 'NEVER' } },
      ],
    })
    assert.deepEqual(body.auth, { login: 'alice@send.test', method: 'PLAIN' })
    assert.equal(body.tls.version, 'TLSv1.3')
    assert.equal(body.client.ip, '192.0.2.10')
    assert.equal(body.client.ptr, null)
    assert.equal(body.client.ehlo, 'client.test')
    assert.deepEqual([body.stage, body.action, body.queue.id], ['data', 'accept', txn.uuid])
    assert.equal(await text(txn), MESSAGE, 'nothing was asked to be changed')
    assert.deepEqual(results(connection).skip, ['no status'])
  })

  it("tells the client's name only where fcrdns found that it leads back to the client's address", async () => {
    const [ip, name] = ['192.0.2.10', 'mail.bank.example']
    const found = (names, addresses) => ({
      fcrdns: names,
      ptr_name_to_ip: addresses,
      ptr_names: [name],
      has_rdns: true,
    })
    for (const [host, result, told] of [
      ['Mail.Bank.example', found([name], { [name]: ['192.0.2.9', ip] }), 'Mail.Bank.example'],
      [name, found([], { [name]: ['198.51.100.1'] }), null],
      [name, found(['other.example'], { 'other.example': [ip], [name]: [] }), null],
      // In the client's network only.
      [name, found([name], { [name]: ['192.0.2.9'] }), null],
      // What fcrdns found before XCLIENT or PROXY changed the address.
      [name, found([name], { [name]: ['203.0.113.1'] }), null],
      [name, found([name], undefined), null],
      ['constructor', found(['constructor'], {}), null],
      [name, { skip: ['private_ip'], fcrdns: [] }, null],
      [name, null, null],
      ['NXDOMAIN', found([], {}), null],
      [undefined, found([], {}), null],
      [null, found([undefined], {}), null],
    ]) {
      const { scanner, plugin } = await setting(accept)
      const connection = await connection_with(REST)
      connection.remote.host = host
      if (result) connection.results.add({ name: 'fcrdns' }, result)
      await call(plugin, 'examine', connection)
      assert.equal(scanner.asked[0].body.client.ptr, told, JSON.stringify([host, result]))
      assert.equal(scanner.asked[0].body.client.ip, ip)
    }
  })

  it('tells the null reverse-path and addresses of older versions of Haraka', async () => {
    const { scanner, plugin } = await setting(accept)
    const connection = await connection_with(MESSAGE, { from: '<>' })
    connection.transaction.rcpt_to = [{ address: () => 'bob@recv.test' }]
    await call(plugin, 'examine', connection)
    assert.equal(scanner.asked[0].body.envelope.from.address, null)
    assert.equal(scanner.asked[0].body.envelope.to[0].address, 'bob@recv.test')
  })

  it('loses its keys in each spelling, gets the status, and keeps every other octet', async () => {
    for (const [word, list] of [
      ['VALIDKEY', 'pass'],
      ['INVALIDKEY', 'fail'],
      ['UNUSABLE', 'fail'],
      ['NOKEY', 'msg'],
    ]) {
      const { plugin } = await setting((body) => stripped(body, word))
      const connection = await connection_with(MESSAGE)
      const { transaction: txn } = connection
      assert.deepEqual(await call(plugin, 'examine', connection), { code: undefined, reply: undefined })
      const status = `X-Auth-Key-Status: ${word}; address=alice@send.test; by=mx.recv.test\r\n`
      assert.equal(await text(txn), status + REST)
      assert.deepEqual(results(connection)[list], [word])
      // Haraka's indexes of the header go along.
      assert.deepEqual(txn.header.get_all('x-auth-key'), [])
      assert.match(txn.header.get('x-auth-key-status'), new RegExp(`^${word};`))
      assert.equal(txn.header.get_decoded('subject').trim(), 'café folded')
      // And what other plugins add stays possible.
      txn.add_header('X-After', 'a')
      txn.add_leading_header('X-Before', 'b')
      txn.remove_header('From')
      const after = await text(txn)
      assert.ok(after.startsWith(`X-Before: b\r\n${status}`) && after.includes('X-After: a\r\n\r\nhello'))
      assert.ok(!after.includes('From:'))
      quiet(connection, plugin)
      assert.deepEqual(await call(plugin, 'guard_queue', connection), { code: undefined, reply: undefined })
    }
  })

  it('takes changes of single fields as well', async () => {
    const { plugin } = await setting(() => ({
      json: {
        add: [{ path: '/message/headers', value: { name: 'X-Auth-Key-Status', value: ' VALIDKEY' }, index: 0 }],
        delete: [5, 4, 2].map((at) => ({ path: `/message/headers/${at}` })),
      },
    }))
    const connection = await connection_with(MESSAGE)
    await call(plugin, 'examine', connection)
    assert.equal(await text(connection.transaction), `X-Auth-Key-Status: VALIDKEY\r\n${REST}`)
  })

  it('is stamped on its way out', async () => {
    const { plugin } = await setting(() => ({
      json: { add: [{ path: '/message/headers', value: { name: 'X-Auth-Key', value: ` ${KEY}` }, index: 0 }] },
    }))
    const connection = await connection_with(REST, { relaying: true, notes: { auth_user: 'alice' } })
    await call(plugin, 'examine', connection)
    assert.equal(await text(connection.transaction), `X-Auth-Key: ${KEY}\r\n${REST}`)
    quiet(connection, plugin)
  })

  it('is refused with the words of addrauth', async () => {
    for (const [code, enhanced, returned] of [
      [550, '5.7.1', 'DENY'],
      [451, '4.7.1', 'DENYSOFT'],
    ]) {
      const { plugin } = await setting(() => reject(code, enhanced, 'no such key'))
      const connection = await connection_with(MESSAGE)
      const said = await call(plugin, 'examine', connection)
      assert.equal(said.code, global[returned])
      assert.equal(said.reply.code, code)
      assert.equal(said.reply.reply, `${enhanced} no such key`)
      assert.deepEqual(results(connection).fail, [`refused with ${code}`])
      // Another plugin may overrule a refusal: the queue does not get the message, and a key is not in it any more.
      assert.equal((await call(plugin, 'guard_queue', connection)).code, global[returned])
      assert.ok(!(await text(connection.transaction)).includes(KEY))
    }
    const { plugin } = await setting(() => action('disconnect'))
    assert.equal((await call(plugin, 'examine', await connection_with(MESSAGE))).code, DENYSOFTDISCONNECT)
  })

  it('is dropped where addrauth says so, before any plugin queues it', async () => {
    const { scanner, plugin } = await setting(() => action('discard'))
    const connection = await connection_with(MESSAGE)
    assert.deepEqual(await call(plugin, 'examine', connection), { code: undefined, reply: undefined })
    assert.equal(connection.transaction.notes.discard, true)
    assert.equal(connection.transaction.notes.get('queue.wants'), 'discard')
    assert.equal((await call(plugin, 'guard_queue', connection)).code, OK)
    assert.equal(scanner.asked.length, 1)
    assert.deepEqual(results(connection).fail, ['dropped'])
  })

  it('goes to those who are left, and to a folder that addrauth names', async () => {
    const { plugin } = await setting((body) =>
      stripped(body, 'INVALIDKEY', {
        add: [{ path: '/envelope/to', value: { address: 'dan+spam@recv.test', parameters: {} } }],
        delete: [2, 0].map((at) => ({ path: `/envelope/to/${at}` })),
      }),
    )
    const connection = await connection_with(MESSAGE, { to: ['bob@recv.test', 'carol@recv.test', 'dan@recv.test'] })
    await call(plugin, 'examine', connection)
    assert.deepEqual(
      connection.transaction.rcpt_to.map((one) => one.address),
      ['carol@recv.test', 'dan+spam@recv.test'],
    )
    const [kept, added] = connection.transaction.rcpt_to
    assert.equal(added.constructor, kept.constructor)
  })

  it('that is left to nobody is dropped', async () => {
    const { plugin } = await setting(() => ({ json: { delete: [{ path: '/envelope/to/0' }] } }))
    const connection = await connection_with(MESSAGE)
    await call(plugin, 'examine', connection)
    assert.equal((await call(plugin, 'guard_queue', connection)).code, OK)
    assert.equal(connection.transaction.rcpt_to.length, 1)
  })

  it('is examined before the queue where another plugin ended data_post', async () => {
    const { scanner, plugin } = await setting((body) => stripped(body, 'VALIDKEY'))
    const connection = await connection_with(MESSAGE)
    assert.deepEqual(await call(plugin, 'guard_queue', connection), { code: undefined, reply: undefined })
    assert.equal(scanner.asked.length, 1)
    assert.ok(!(await text(connection.transaction)).includes(KEY))
  })

  it('shows what other plugins found out by now, and what a stranger claims to be so not', async () => {
    const { scanner, plugin } = await setting(accept)
    const forged = 'authentication-results\t: mx; spf=pass\r\n'
    const others = 'Authentication-Results: other; spf=pass\r\n'
    const connection = await connection_with(`${forged}${others}${REST}`)
    await call(plugin, 'examine', connection)
    assert.equal(await text(connection.transaction), others + REST)
    const found = await connection_with(`${forged}${others}${REST}`)
    found.auth_results = () => 'mx;\r\n\tdkim=pass'
    await call(plugin, 'examine', found)
    const shown = Buffer.from(scanner.asked[1].body.rawMessage, 'base64').toString('latin1')
    assert.equal(shown, `Authentication-Results: mx;\r\n\tdkim=pass\r\n${REST}`)
    assert.equal(found.transaction.header.get_all('authentication-results').length, 1)
  })

  it('is shown and handed on without lines of its header that are no fields', async () => {
    const forged = `X-Auth-Key-Status: VALIDKEY; address=ceo@bank.example\r\nX-Auth-Key: ${KEY}\r\n`
    const last = 'From: ceo@bank.example\r\n'
    const fold = `junk\r\n\tX-Auth-Key: ${KEY}`
    for (const [line, kept] of [
      ['junk', false],
      ['junk\r\nmore', false],
      [fold, false],
      ['From me@one.test Mon Nov 30 17:12:30 2026', false],
      ['>From me@one.test Mon Nov 30 17:12:30 2026', false],
      ['>From: me@one.test', true],
      ['X-Odd : v', true],
      ['X-Odd\t \t:\r\n\tv', true],
      [' : a fold of the field before', true],
      [':', false],
      [': v', false],
      ['.junk', false],
      ['.dot: v', true],
      ['\xc3\x84: v', false],
      ['X-Auth\xa0-Key: v', false],
      ['X-Auth-Key\0: v', false],
      ['X-Auth-Key\x7f: v', false],
      ['X-Auth-Key\r: v', false],
      [`X-Auth-Key\r\n : ${KEY}`, false],
      ['X Auth-Key: v', false],
    ]) {
      const around = (field, fields) => REST.replace('\r\n\r\n', `\r\n${field}${fields}${last}\r\n`)
      const field = kept ? `${line}\r\n` : ''
      const pass = async (script, how) => {
        const { scanner, plugin } = await setting(script)
        const connection = await connection_with(around(`${line}\r\n`, forged), how)
        assert.equal((await call(plugin, 'examine', connection)).code, undefined, line)
        assert.equal((await call(plugin, 'guard_queue', connection)).code, undefined, line)
        const raw = Buffer.from(scanner.asked[0].body.rawMessage, 'base64').toString('latin1')
        assert.equal(raw, around(field, forged), line)
        quiet(connection, plugin)
        return text(connection.transaction)
      }
      for (const how of [{}, { relaying: true }]) {
        assert.equal(await pass(accept, how), around(field, forged), line)
        const status = 'X-Auth-Key-Status: INVALIDKEY; address=alice@send.test; by=mx.recv.test\r\n'
        const left = await pass((body) => stripped(body, 'INVALIDKEY'), how)
        assert.equal(left, status + around(field, ''), line)
      }
    }
  })

  it('is deferred where such a line stands inside an entry of another plugin, or where nothing else is left', async () => {
    const { scanner, plugin } = await setting(accept)
    const connection = await connection_with(REST)
    connection.transaction.header.header_list.push('X-Other: v\njunk\n')
    assert.equal((await call(plugin, 'examine', connection)).code, DENYSOFT)
    assert.equal((await call(plugin, 'examine', await connection_with('junk\r\n\r\nbody\r\n'))).code, DENYSOFT)
    assert.equal(scanner.asked.length, 0)
  })

  it("keeps addrauth's Authentication-Results, which Haraka takes away behind data_post", async () => {
    const { plugin } = await setting(() => ({
      json: {
        add: [{ path: '/message/headers', value: { name: 'Authentication-Results', value: ' mx; x' }, index: 0 }],
      },
    }))
    const connection = await connection_with(REST)
    await call(plugin, 'examine', connection)
    connection.transaction.remove_header('Authentication-Results')
    connection.transaction.add_leading_header('Authentication-Results', 'mx; spf=pass')
    await call(plugin, 'guard_queue', connection)
    await call(plugin, 'guard_queue', connection)
    const own = 'Authentication-Results: mx; x\r\nAuthentication-Results: mx; spf=pass\r\n'
    assert.equal(await text(connection.transaction), own + REST)
  })
})

describe('a recipient', () => {
  const at_rcpt = async (script, more) => {
    const { scanner, plugin } = await setting(script, { main: { rcpt: true }, ...more })
    const connection = await connection_with(REST, { to: ['bob@recv.test', 'carol@recv.test'] })
    return { scanner, connection, plugin, said: await call(plugin, 'ask_rcpt', connection) }
  }

  it('is asked about where rcpt = true, and refused alone', async () => {
    const { scanner, plugin, connection, said } = await at_rcpt(() => reject(452, '4.5.3', 'in another transaction'))
    assert.equal(said.code, DENYSOFT)
    assert.equal(said.reply.code, 452)
    assert.equal(said.reply.reply, '4.5.3 in another transaction')
    const [{ body, headers }] = scanner.asked
    assert.equal(body.stage, 'rcpt')
    assert.equal(body.rawMessage, null)
    assert.equal(body.envelope.to.length, 2)
    await call(plugin, 'ask_rcpt', connection)
    assert.notEqual(scanner.asked[1].headers['x-mta-hooks-request-id'], headers['x-mta-hooks-request-id'])
    assert.deepEqual(scanner.registered[0].body.inbound.stages, ['rcpt', 'data'])
  })

  it('is let be otherwise', async () => {
    assert.deepEqual((await at_rcpt(accept)).said, { code: undefined, reply: undefined })
    const { scanner, plugin } = await setting(accept)
    assert.equal((await call(plugin, 'ask_rcpt', await connection_with(REST))).code, undefined)
    assert.equal(scanner.asked.length, 0)
  })

  it('is deferred where nobody can be asked, or let be where fail = strip', async () => {
    const trouble = () => ({ status: 401, json: {} })
    assert.equal((await at_rcpt(trouble)).said.code, DENYSOFT)
    assert.equal((await at_rcpt(() => action('discard'))).said.code, DENYSOFT)
    const strikes = () => ({ json: { delete: [{ path: '/envelope/to/0' }] } })
    assert.equal((await at_rcpt(strikes)).said.code, DENYSOFT)
    assert.equal((await at_rcpt(trouble, { main: { rcpt: true, fail: 'strip' } })).said.code, undefined)
  })
})
