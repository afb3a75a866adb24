'use strict'

// The plugin in a real Haraka, between a real client and a server that keeps what it gets; addrauth is played.
// HARAKA_DIR names a folder where Haraka is installed; without it this says so and passes.

const assert = require('node:assert/strict')
const { after, before, describe, it } = require('node:test')

const { STATUS, strip } = require('../lib/header')
const { Haraka, folder } = require('../stand/haraka')
const { Sink, send } = require('../stand/mail')
const { accept, action, reject, Scanner, stripped } = require('../stand/scanner')

const KEY = 'Vb3kQ9w2Zr7tYp0sXn4mLc8dHf1gJa6eUi5oRk2y'
const skip = folder ? false : 'HARAKA_DIR names no folder with a Haraka'

const FIELDS = [
  `X-Auth-Key: ${KEY}\r\n`,
  'From: Alice <alice@send.test>\r\n',
  `X-AUTH-KEY :\r\n\t${KEY}\r\n \r\n`,
  'X-Auth-Key-Status: VALIDKEY; forged\r\n',
  `x-auth-key \t : \xe4\xff${KEY}\r\n`,
  'Subject: caf\xc3\xa9\r\n  folded \r\n\tagain\r\n',
  'X-Empty:\r\n',
  'x-AUTH-key:\r\n',
  'To:bob@recv.test\r\n',
].join('')
const BODY = '\r\nhello \xe9\xff\r\n.dot\r\n..two\r\n\r\n X-Auth-Key: in the body\r\nend\r\n'
const MESSAGE = FIELDS + BODY
const RECEIVED = /Received: from [^\n]*\n(?:[ \t][^\n]*\n)*/

const raw_of = (seen) => Buffer.from(seen.body.rawMessage, 'base64')
const to = (...names) => ({ to: names.map((name) => `${name}@recv.test`) })

// By the first recipient's local part.
function play(body) {
  const [name] = body.envelope.to.at(body.stage === 'rcpt' ? -1 : 0).address.split('@')
  if (body.stage === 'rcpt') return name === 'later' ? reject(452, '4.5.3', 'In another transaction') : accept()
  const gone = (...positions) => ({ delete: positions.map((at) => ({ path: `/envelope/to/${at}` })) })
  switch (name) {
    case 'same':
      return accept()
    case 'refused':
      return reject(550, '5.7.1', 'This key is not the right one')
    case 'dropped':
      return action('discard')
    case 'held':
      return action('quarantine')
    case 'first':
      return stripped(body, 'INVALIDKEY', gone(2, 0))
    case 'folder':
      return stripped(body, 'INVALIDKEY', {
        ...gone(0),
        add: [{ path: '/envelope/to', value: { address: 'folder+spam@recv.test', parameters: {} } }],
      })
    case 'stamped':
      return {
        json: { add: [{ path: '/message/headers', value: { name: 'X-Auth-Key', value: ` ${KEY}` }, index: 0 }] },
      }
    case 'slow':
      return 'hang'
    case 'garbled':
      return { body: `X-Auth-Key: ${KEY}` }
    default:
      return stripped(body, 'VALIDKEY')
  }
}

describe('a real Haraka', { skip }, () => {
  const haraka = new Haraka()
  const scanner = new Scanner(play)
  const sink = new Sink()

  before(async () => {
    await sink.start()
    await scanner.start()
    await haraka.start(`port=${scanner.port}\ntimeout=3\nrcpt=true\n`, sink.port)
  })
  after(async () => {
    if (haraka.process) await haraka.stop()
    assert.equal(scanner.deleted.length, 1, 'its registration is taken back')
    await scanner.stop()
    await sink.stop()
    assert.ok(!haraka.log.includes(KEY), 'a key stands in the log of Haraka')
    assert.ok(!/failed:|timed out|uncaught/i.test(haraka.log), haraka.log)
  })

  const sent = async (octets, how) => {
    const kept = sink.got.length
    const asked = scanner.asked.length
    const said = await send(haraka.port, octets, how)
    return {
      said,
      mail: sink.got.slice(kept),
      asked: scanner.asked.slice(asked).filter(({ body }) => body.stage === 'data'),
    }
  }

  it('hands on, octet for octet, what addrauth was shown', async () => {
    const { said, mail, asked } = await sent(MESSAGE, to('same'))
    assert.match(said.data, /^250/)
    assert.equal(mail[0].octets, raw_of(asked[0]).toString('latin1'))
    // Octets of a header that are no UTF-8 are Haraka's to change, with this plugin or without it.
    const haraka_shows = MESSAGE.replace('\xe4\xff', '\xef\xbf\xbd\xef\xbf\xbd')
    assert.equal(mail[0].octets.replace(RECEIVED, ''), haraka_shows)
  })

  it('delivers without a key in any spelling, with the status on top, and every other octet as it was', async () => {
    const { said, mail, asked } = await sent(MESSAGE, to('bob'))
    assert.match(said.data, /^250/)
    const status = 'X-Auth-Key-Status: VALIDKEY; address=alice@send.test; by=mx.recv.test\r\n'
    assert.equal(mail[0].octets, status + strip(raw_of(asked[0]), ['x-auth-key', STATUS]).toString('latin1'))
    assert.ok(!mail[0].octets.includes(KEY))
    assert.deepEqual(mail[0].to, ['bob@recv.test'])
  })

  it('does the same after HELO, where Haraka reads header fields in another way', async () => {
    const { mail, asked } = await sent(MESSAGE, { ...to('bob'), verb: 'HELO' })
    assert.ok(mail[0].octets.endsWith(strip(raw_of(asked[0]), ['x-auth-key', STATUS]).toString('latin1')))
    assert.ok(!mail[0].octets.includes(KEY))
  })

  it('hands on what addrauth was shown where a header ends oddly', async () => {
    for (const octets of [
      `From: a@send.test\r\njunk\r\nX-Auth-Key: k\r\n\r\nb\r\n`,
      `From: a@send.test\r\nX-Auth-Key: k\r\n`,
      `\r\nX-Auth-Key: k\r\n\r\nb\r\n`,
      `.From: a@send.test\r\n..X-Auth-Key: k\r\n\r\n`,
      `A: ${'b'.repeat(5000)}\r\n\r\n`,
      `A: b\r\n`.repeat(1200) + '\r\nb\r\n',
    ]) {
      const { said, mail, asked } = await sent(octets, to('same'))
      assert.match(said.data, /^250/)
      assert.equal(mail[0].octets, raw_of(asked[0]).toString('latin1'))
    }
  })

  it('refuses with the words of addrauth', async () => {
    const { said, mail } = await sent(MESSAGE, to('refused'))
    assert.equal(said.data, '550 5.7.1 This key is not the right one')
    assert.equal(mail.length, 0)
  })

  it('drops what addrauth drops or keeps', async () => {
    for (const login of [undefined, 'alice@send.test']) {
      const { said, mail } = await sent(MESSAGE, { ...to('dropped'), login })
      assert.match(said.data, /^250/)
      assert.equal(mail.length, 0)
    }
  })

  it('defers what it cannot do, or does not understand, or hears nothing of', async () => {
    for (const name of ['held', 'slow', 'garbled']) {
      const { said, mail } = await sent(MESSAGE, to(name))
      assert.match(said.data, /^451 4\.3\.0 /, name)
      assert.equal(mail.length, 0)
    }
  })

  it('strikes recipients out, and delivers to a folder', async () => {
    const three = await sent(MESSAGE, to('first', 'bob', 'carol'))
    assert.deepEqual(three.mail[0].to, ['bob@recv.test'])
    const folder = await sent(MESSAGE, to('folder', 'bob'))
    assert.deepEqual(folder.mail[0].to, ['bob@recv.test', 'folder+spam@recv.test'])
  })

  it('tells recipients apart at RCPT', async () => {
    const { said, mail } = await sent(MESSAGE, to('bob', 'later'))
    assert.match(said.rcpt[0], /^250/)
    assert.equal(said.rcpt[1], '452 4.5.3 In another transaction')
    assert.deepEqual(mail[0].to, ['bob@recv.test'])
  })

  it('stamps the mail of a login', async () => {
    const octets = `From: alice@send.test\r\nSubject: x\r\n${BODY}`
    const { mail, asked } = await sent(octets, { to: ['stamped@else.test'], login: 'alice@send.test' })
    assert.deepEqual(asked[0].body.auth, { login: 'alice@send.test', method: 'PLAIN' })
    // Haraka's own result of the login, which it writes anew behind data_post.
    const results = /Authentication-Results: mx\.recv\.test;\r\n\tauth=pass \(plain\)\r\n/
    const [before, after] = [raw_of(asked[0]).toString('latin1'), mail[0].octets]
    assert.match(before, results)
    assert.equal(after.replace(results, ''), `X-Auth-Key: ${KEY}\r\n${before.replace(results, '')}`)
  })

  it('serves many at the same time, and large ones', async () => {
    const large = `${FIELDS}\r\n${`${'y'.repeat(76)}\r\n`.repeat(60000)}`
    const all = await Promise.all(
      Array.from({ length: 20 }, (_, at) => send(haraka.port, at ? MESSAGE : large, to('bob'))),
    )
    for (const said of all) assert.match(said.data, /^250/)
    assert.ok(sink.got.every((mail) => mail.to[0].startsWith('s') || !mail.octets.includes(KEY)))
    assert.equal(scanner.registered.length, 1)
  })
})

describe('a real Haraka that keeps messages on disk', { skip }, () => {
  it('hands them on as it does others', async () => {
    const [haraka, scanner, sink] = [new Haraka(), new Scanner(play), new Sink()]
    try {
      await Promise.all([sink.start(), scanner.start()])
      await haraka.start(`port=${scanner.port}\n`, sink.port, { spool: true })
      const large = MESSAGE + `${'y'.repeat(76)}\r\n`.repeat(5000)
      assert.match((await send(haraka.port, large, to('bob'))).data, /^250/)
      const raw = raw_of(scanner.asked[0])
      assert.ok(raw.length > 300000)
      assert.ok(sink.got[0].octets.endsWith(strip(raw, ['x-auth-key', STATUS]).toString('latin1')))
      assert.match((await send(haraka.port, large, to('refused'))).data, /^550/)
    } finally {
      await haraka.stop()
      await Promise.all([sink.stop(), scanner.stop()])
    }
  })
})

describe('a real Haraka whose addrauth is away', { skip }, () => {
  const played = async (ini, plugins, use) => {
    const sink = await new Sink().start()
    const haraka = new Haraka()
    try {
      await haraka.start(ini, sink.port, { plugins })
      await use(haraka, sink)
    } finally {
      await haraka.stop()
      await sink.stop()
      assert.ok(!haraka.log.includes(KEY))
    }
  }

  it('defers mail', async () => {
    await played('unix_socket=/nowhere/hooks\n', [], async (haraka, sink) => {
      assert.match((await send(haraka.port, MESSAGE, to('bob'))).data, /^451 4\.3\.0 /)
      assert.equal(sink.got.length, 0)
      assert.match(haraka.log, /unix:\/nowhere\/hooks cannot be reached \(ENOENT\)/)
    })
  })

  it('lets mail through without its key where fail = strip', async () => {
    await played('unix_socket=/nowhere/hooks\nfail=strip\n', [], async (haraka, sink) => {
      assert.match((await send(haraka.port, MESSAGE, to('bob'))).data, /^250/)
      const octets = sink.got[0].octets.replace(RECEIVED, '')
      assert.equal(octets, strip(Buffer.from(MESSAGE, 'latin1'), ['x-auth-key', STATUS]).toString('latin1'))
      const junk = `From: a@send.test\r\njunk\r\nx-auth-key: ${KEY}\r\n\r\nb\r\n`
      assert.match((await send(haraka.port, junk, to('bob'))).data, /^250/)
      assert.equal(sink.got[1].octets.replace(RECEIVED, ''), 'From: a@send.test\r\n\r\nb\r\n')
      const next = `X-New-Auth-Key: ${KEY}\r\n${MESSAGE}`
      assert.match((await send(haraka.port, next, to('bob'))).data, /^451/)
    })
  })

  it('gives nothing to the queue where another plugin ends data_post or overrules a refusal', async () => {
    const ends = { name: 'ends', code: 'exports.hook_data_post = (next) => next(OK)' }
    const overrules = {
      name: 'overrules',
      code: "exports.hook_deny = (next, c, p) => next(p[5] === 'data_post' ? OK : CONT)",
    }
    for (const other of [ends, overrules]) {
      await played('unix_socket=/nowhere/hooks\n', [other], async (haraka, sink) => {
        assert.match((await send(haraka.port, MESSAGE, to('bob'))).data, /^45[01] 4\.3\.0 /, other.name)
        assert.equal(sink.got.length, 0)
      })
    }
  })

  it('does not start where nobody says where addrauth is', async () => {
    await assert.rejects(
      played('', [], () => {}),
      /main.port or main.unix_socket/,
    )
  })
})
