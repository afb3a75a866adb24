'use strict'

// The plugin in a real Haraka, with the real addrauth behind it: the scenario table of all doors (tests/cases/doors.tsv).
// HARAKA_DIR and ADDRAUTH_BIN name both; without them this says so and passes.

const assert = require('node:assert/strict')
const { readFileSync } = require('node:fs')
const net = require('node:net')
const path = require('node:path')
const { after, before, describe, it } = require('node:test')
const { setTimeout: pause } = require('node:timers/promises')

const { Authority } = require('../stand/authority')
const { Daemon, program } = require('../stand/daemon')
const { Haraka, folder } = require('../stand/haraka')
const { Sink, send } = require('../stand/mail')

const TESTS = path.resolve(__dirname, '..', '..', '..', 'tests')
const skip = folder && program ? false : 'HARAKA_DIR and ADDRAUTH_BIN name no Haraka and no addrauth'

const GOOD = 'Vb3kQ9w2Zr7tYp0sXn4mLc8dHf1gJa6eUi5oRk2yTq9wEz3xBv7nMs4pDl8hGj0K'
const JUNK = 'W'.repeat(64)
const NEXT = 'N3xtKeyN3xtKeyN3xtKeyN3xtKeyN3xt'
const FRIEND = 'friend@accept.here.example'
const BODY = 'one line \xe9\r\n.\r\n..two\r\nX-Auth-Key: in the body it is text\r\n'
const RECEIVED = /Received: from [^\n]*\n(?:[ \t][^\n]*\n)*/
const RESULTS = /Authentication-Results: mx\.home\.example[^\n]*\n(?:[ \t][^\n]*\n)*/g

const POLICIES = {
  accept: 'accept',
  mark: 'mark',
  silent: 'reject-silently',
  sender: 'reject-notify-sender',
  recipient: 'reject-notify-recipient',
  both: 'reject-notify-both',
  quarantine: 'quarantine',
  defer: 'putting-off',
}
const HOSTS = Object.keys(POLICIES).map((name) => `${name}.here.example`)
const KEYS = { valid: [GOOD, 'valid'], wrong: [JUNK, 'invalid'], none: [null, 'missing'] }

// What SPF found is for another plugin to say; this one finds that everybody may send.
const SPF = {
  name: 'spf_passes',
  code: `exports.hook_mail = (next, connection, [from]) => {
    connection.auth_results('spf=pass smtp.mailfrom=' + from.host)
    next()
  }`,
}

function cells() {
  const all = []
  for (const scenario of Object.keys(POLICIES)) {
    for (const shape of ['one', 'mixed']) {
      for (const key of Object.keys(KEYS)) {
        const number = all.length
        // One of its own where a report may go to it, of which each gets one in an hour.
        const told = ['silent', 'sender', 'both'].includes(scenario)
        const sender = told ? `u${number}@example.com` : 'alice@example.com'
        const own = `bob${number}@${scenario}.here.example`
        all.push({ scenario, shape, key, sender, own, to: shape === 'mixed' ? [own, FRIEND] : [own] })
      }
    }
  }
  return all
}

function message({ key, sender }) {
  const value = KEYS[key][0]
  return [
    'X-Auth-Key-Status: VALIDKEY; address=boss@example.com; by=forged.example\r\n',
    `From: Alice <${sender}>\r\n`,
    value ? `x-auth-key : ${value}\r\n` : '',
    'Subject:  odd\r\n folded\r\n',
    `\r\n${BODY}`,
  ].join('')
}

// The line of the table that speaks of a cell: answer, own, other, row, notice.
function expected({ scenario, shape, key }) {
  const lines = readFileSync(path.join(TESTS, 'cases', 'doors.tsv'), 'utf8').split('\n')
  const words = lines.map((line) => line.split('\t'))
  const speaks = (line) =>
    line[0] === scenario && line[1] === shape && (line[2] === '*' || line[2].split(',').includes(key))
  const found = words.filter(speaks)
  assert.equal(found.length, 1, `${scenario} ${shape} ${key}`)
  return found[0].slice(3, 8).join(' ')
}

const RESULT_WORDS = ['valid', 'invalid', 'missing', 'none', 'unverified', 'unusable']

// more: settings of [policy], and sections behind it.
function config(authority, notices, more = '') {
  const bound = Object.entries(POLICIES).map(([name, policy]) => {
    const lines = RESULT_WORDS.map((result) => {
      // Bound to a missing key that would be a fault of the configuration.
      const silent = policy === 'reject-silently' && result === 'missing'
      return `${result} = "${silent ? 'reject-notify-sender' : policy}"\n`
    })
    return `[policy.domain."${name}.here.example"]\n${lines.join('')}`
  })
  return `final_domains = ${JSON.stringify(HOSTS)}
trusted_authserv_ids = ["mx.home.example"]
[notices]
notify_via = "127.0.0.1:${notices}"
[verify]
dns = ["127.0.0.1:9"]
[verify.domain."example.com"]
as = "127.0.0.1:${authority}"
[verify.domain."accept.here.example"]
as = "127.0.0.1:${authority}"
[policies.putting-off]
module = "${TESTS}/hostile/hostile.wasm"
settings = { does = "trap" }
[policy]
quarantine = "store"
${more}
${bound.join('')}`
}

// Stands before a daemon, and loses the connection at the first answer to a message.
class Cut {
  cuts = []

  async start(socket) {
    this.server = net.createServer((near) => {
      const far = net.connect({ path: socket })
      let asked = false
      near.on('data', (chunk) => {
        asked ||= chunk.includes('/draft-01/hook')
        far.write(chunk)
      })
      far.on('data', (chunk) => {
        if (!asked || this.cuts.length) return near.write(chunk)
        this.cuts.push(chunk.length)
        near.destroy()
      })
      for (const [one, other] of [
        [near, far],
        [far, near],
      ]) {
        one.on('error', () => {})
        one.on('close', () => other.destroy())
      }
    })
    await new Promise((resolve) => this.server.listen(`${socket}-cut`, resolve))
    return `${socket}-cut`
  }

  stop() {
    this.server?.close()
  }
}

const word = (answer) => {
  if (answer.startsWith('550 5.7.1 ')) return 'refuse'
  if (answer.startsWith('451 4.')) return 'defer'
  return answer
}

const header = (mail) => mail.octets.split('\r\n\r\n')[0]

// What the table says of one copy that was delivered.
function place(mail) {
  const head = header(mail)
  const told = (head.match(/^X-Auth-Key-Status: /gim) ?? []).length === 1
  const clean = !/^x-auth-key[ \t]*:/im.test(head) && !head.includes('forged.example')
  if (!told || !clean || !mail.octets.endsWith(`\r\n\r\n${BODY}`)) return 'spoiled'
  return head.includes('\r\nX-Spam-Flag: YES\r\n') ? 'marked' : 'inbox'
}

describe('every scenario, behind a real Haraka', { skip }, () => {
  const [sink, notices, authority, daemon, haraka] = [
    new Sink(),
    new Sink(),
    new Authority(),
    new Daemon(),
    new Haraka(),
  ]

  before(async () => {
    await Promise.all([sink.start(), notices.start(), authority.start(GOOD, 'example.com')])
    await daemon.start(config(authority.port, notices.port))
    const ini = `unix_socket=${daemon.hooks}\ntimeout=15\n`
    await haraka.start(ini, sink.port, { plugins: [SPF], hosts: HOSTS, me: 'mx.home.example' })
  })
  after(async () => {
    if (haraka.process) await haraka.stop()
    if (daemon.process) await daemon.stop()
    await Promise.all([sink.stop(), notices.stop(), authority.stop()])
    for (const key of [GOOD, JUNK]) {
      assert.ok(!haraka.log.includes(key), 'a key stands in the log of Haraka')
      assert.ok(!daemon.log.includes(key), 'a key stands in the log of addrauth')
      assert.ok(!authority.asked.join('').includes(key), 'a key was sent to the AS')
    }
  })

  // A line as the table's, of what was seen of a cell.
  function seen(cell, rows, kept) {
    const own_row = rows.filter((row) => JSON.stringify(row.case).includes(cell.own))
    const row = own_row.filter(({ result }) => result === KEYS[cell.key][1]).length
    const delivered = sink.got.find((mail) => mail.to.some((to) => cell.to.includes(to)) && mail.cell === cell)
    const answer = cell.said.startsWith('250') ? (delivered ? 'deliver' : 'drop') : word(cell.said)
    const copies = notices.got.filter((mail) => mail.to[0] === cell.own && mail.from === cell.sender)
    const told = notices.got.filter((mail) => mail.to[0] === cell.own && mail.from === '')
    const reports = notices.got.filter((mail) => mail.to[0] === cell.sender && mail.from === '')
    const where = (recipient) => {
      if (answer === 'refuse') return 'refused'
      if (answer === 'defer') return 'deferred'
      const places = delivered?.to.includes(recipient) ? [place(delivered)] : []
      if (recipient === cell.own) {
        if (kept.some((one) => JSON.stringify(one).includes(recipient))) places.push('kept')
        places.push(...copies.map((copy) => (place(copy) === 'marked' ? 'copy' : 'spoiled')))
        places.push(...reports.map(() => 'reported'))
      }
      return places.join('+') || 'dropped'
    }
    const other = cell.shape === 'mixed' ? where(FRIEND) : '-'
    return [answer, where(cell.own), other, row, told.length].join(' ')
  }

  it('has the fate that the table of all doors says', async () => {
    const all = cells()
    for (const cell of all) {
      const before = sink.got.length
      const said = await send(haraka.port, message(cell), { from: cell.sender, to: cell.to })
      cell.said = said.data
      for (const mail of sink.got.slice(before)) mail.cell = cell
    }
    let wrong
    // Reports go out one a second.
    for (const until = Date.now() + 60000; Date.now() < until; await pause(500)) {
      const rows = await daemon.list('journal', 'list', '--last', '0')
      const kept = await daemon.list('quarantine', 'list')
      wrong = all.filter((cell) => seen(cell, rows, kept) !== expected(cell))
      wrong = wrong.map((cell) => [cell, `seen: ${seen(cell, rows, kept)}`, `expected: ${expected(cell)}`])
      if (!wrong.length) break
    }
    assert.deepEqual(wrong, [])
  })

  it('leaves every other octet of a message as it was', async () => {
    const cell = { key: 'valid', sender: 'alice@example.com' }
    await send(haraka.port, message(cell), { from: cell.sender, to: [FRIEND] })
    const octets = sink.got.at(-1).octets.replace(RECEIVED, '').replace(RESULTS, '')
    const status = 'X-Auth-Key-Status: VALIDKEY; address=alice@example.com; by=mx.home.example\r\n'
    assert.equal(octets, `${status}From: Alice <alice@example.com>\r\nSubject:  odd\r\n folded\r\n\r\n${BODY}`)
  })

  it('keeps a message in quarantine whole, and releases it', async () => {
    const [kept] = await daemon.list('quarantine', 'list')
    const before = notices.got.length
    await daemon.call('quarantine', 'release', String(kept.id))
    for (const until = Date.now() + 30000; Date.now() < until && notices.got.length === before;) await pause(100)
    assert.ok(notices.got.at(-1).octets.endsWith(`\r\n\r\n${BODY}`))
  })

  it('is deferred while addrauth is away, and examined when it is back', async () => {
    const cell = { key: 'valid', sender: 'alice@example.com' }
    const how = { from: cell.sender, to: [FRIEND] }
    await daemon.end()
    assert.match((await send(haraka.port, message(cell), how)).data, /^451 4\.3\.0 /)
    await daemon.run()
    assert.match((await send(haraka.port, message(cell), how)).data, /^250/)
    assert.equal(place(sink.got.at(-1)), 'inbox')
  })
})

describe('a real Haraka and the real addrauth', { skip }, () => {
  const played = async ({ ini = '', toml = '', socket = 'hooks', cut = false }, use) => {
    const parts = [new Sink(), new Sink(), new Authority(), new Daemon(), new Haraka(), new Cut()]
    const [sink, notices, authority, daemon, haraka, cutting] = parts
    try {
      await Promise.all([sink.start(), notices.start(), authority.start(NEXT, 'accept.here.example')])
      await daemon.start(config(authority.port, notices.port, toml))
      const place = cut ? await cutting.start(daemon[socket]) : daemon[socket]
      await haraka.start(`unix_socket=${place}\n${ini}`, sink.port, { hosts: HOSTS, me: 'mx.home.example' })
      await use({ sink, daemon, haraka, notices, cuts: cutting.cuts })
    } finally {
      if (haraka.process) await haraka.stop()
      cutting.stop()
      if (daemon.process) await daemon.stop()
      await Promise.all([sink.stop(), notices.stop(), authority.stop()])
      for (const key of [NEXT, GOOD, JUNK]) assert.ok(!(haraka.log + daemon.log).includes(key))
    }
  }

  it('tell recipients apart at RCPT where mixed = "split"', async () => {
    await played({ ini: 'rcpt=true\n', toml: 'mixed = "split"\n' }, async ({ sink, haraka }) => {
      const to = [FRIEND, 'bob@mark.here.example', 'dan@accept.here.example']
      const said = await send(haraka.port, message({ key: 'none', sender: 'alice@example.com' }), { to })
      assert.match(said.rcpt[0], /^250/)
      assert.match(said.rcpt[1], /^452 4\.5\.3 /)
      assert.match(said.rcpt[2], /^250/)
      assert.deepEqual(sink.got[0].to, [FRIEND, 'dan@accept.here.example'])
    })
  })

  it('learn a key that comes by mail, and stamp with it what its login sends', async () => {
    await played({ toml: '[keyring]\nlearn = true\nstamp = true\n' }, async ({ sink, haraka, daemon }) => {
      const bob = 'bob@accept.here.example'
      const brings = `From: postmaster@accept.here.example\r\nTo: ${bob}\r\nX-New-Auth-Key: ${NEXT}\r\nSubject: k\r\n\r\nb\r\n`
      const learnt = await send(haraka.port, brings, { from: 'postmaster@accept.here.example', to: [bob] })
      assert.match(learnt.data, /^250/, daemon.log)
      assert.equal(sink.got.length, 0, 'it ends here')
      const out = `From: Bob <${bob}>\r\nSubject: hi\r\n\r\n${BODY}`
      const said = await send(haraka.port, out, { from: bob, to: ['x@else.test'], login: bob })
      assert.match(said.data, /^250/, daemon.log)
      const head = header(sink.got[0])
      assert.match(head, new RegExp(`^X-Auth-Key: ${NEXT}\r$`, 'm'))
      assert.ok(sink.got[0].octets.endsWith(`\r\n\r\n${BODY}`))
      // To a colleague it goes without a key, and is his own login's.
      await send(haraka.port, out, { from: bob, to: [FRIEND], login: bob })
      assert.match(header(sink.got[1]), /^X-Auth-Key-Status: VALIDKEY;/m)
      assert.ok(!sink.got[1].octets.includes(NEXT))
    })
  })

  it('do a thing once where the connection is lost before the answer', async () => {
    await played({ cut: true }, async ({ haraka, daemon, cuts }) => {
      const to = ['bob@quarantine.here.example']
      const said = await send(haraka.port, message({ key: 'none', sender: 'alice@example.com' }), { to })
      assert.match(said.data, /^250/)
      assert.equal(cuts.length, 1)
      assert.equal((await daemon.list('quarantine', 'list')).length, 1)
      assert.equal((await daemon.list('journal', 'list', '--last', '0')).length, 1)
    })
  })

  it('report nothing to a sender whom only a forged field vouches for', async () => {
    await played({}, async ({ haraka, sink, daemon, notices }) => {
      const forged = ['Authentication-Results', 'authentication-results ', 'Authentication-Results\t']
      const fields = forged.map((name) => `${name}: mx.home.example; spf=pass smtp.mailfrom=example.com\r\n`)
      const to = ['bob@sender.here.example', FRIEND]
      const octets = fields.join('') + message({ key: 'none', sender: 'alice@example.com' })
      assert.match((await send(haraka.port, octets, { from: 'alice@example.com', to })).data, /^250/)
      assert.deepEqual(sink.got[0].to, [FRIEND])
      assert.equal((await daemon.list('quarantine', 'list')).length, 1)
      assert.equal(notices.got.length, 0)
    })
  })

  it('let no field through behind a line that is none', async () => {
    await played({}, async ({ haraka, sink }) => {
      const own = 'From: me@accept.here.example\r\nSubject: x\r\n'
      const forged = 'X-Auth-Key-Status: VALIDKEY; address=ceo@bank.example; by=mx.home.example\r\n'
      for (const junk of ['junk', '>From me@one.test Mon Nov 30 17:12:30 2026', ': x', '\xc4: x']) {
        const octets = `${own}${junk}\r\n${forged}x-auth-key : ${JUNK}\r\nX-Last: y\r\n\r\n${BODY}`
        assert.match((await send(haraka.port, octets, { to: [FRIEND] })).data, /^250/)
        const left = sink.got.at(-1).octets.replace(RECEIVED, '').replace(RESULTS, '')
        const status = /^X-Auth-Key-Status: (?!VALIDKEY)[^\r]*address=me@accept\.here\.example;[^\r]*\r\n/
        assert.match(left, status)
        assert.equal(left.replace(status, ''), `${own}X-Last: y\r\n\r\n${BODY}`)
      }
      const two = `${own}junk\r\n${forged}From: ceo@bank.example\r\n\r\n${BODY}`
      await send(haraka.port, two, { to: [FRIEND] })
      assert.ok(!/VALIDKEY; address=ceo/.test(sink.got.at(-1)?.octets), 'a forged status is left')
    })
  })

  it('deliver to the spam folder where mark = "folder"', async () => {
    await played({ toml: 'mark = "folder"\nspam_folder = "+Junk"\n' }, async ({ haraka, sink }) => {
      const octets = message({ key: 'none', sender: 'alice@example.com' })
      await send(haraka.port, octets, { to: ['bob@mark.here.example', FRIEND] })
      assert.deepEqual(sink.got[0].to, [FRIEND, 'bob+Junk@mark.here.example'])
    })
  })

  it('treat a name in octets that are no UTF-8 as Haraka shows it', async () => {
    await played({}, async ({ haraka, sink }) => {
      const octets = 'From: J\xfcrgen <jo@example.com>\r\nSubject: gr\xfc\xdfe\r\n\r\n\xfc\r\n'
      assert.match((await send(haraka.port, octets, { to: [FRIEND] })).data, /^250/)
      assert.match(header(sink.got[0]), /^X-Auth-Key-Status: NOKEY; address=jo@example\.com;/)
      assert.ok(sink.got[0].octets.endsWith('\r\n\r\n\xfc\r\n'))
    })
  })

  it('say in words that the plugin was given the milter', async () => {
    await played({ socket: 'milter' }, async ({ sink, haraka }) => {
      const said = await send(haraka.port, message({ key: 'valid', sender: 'alice@example.com' }), { to: [FRIEND] })
      assert.match(said.data, /^451 4\.3\.0 /)
      assert.match(haraka.log, /speaks the milter protocol and not HTTP/)
      assert.equal(sink.got.length, 0)
    })
  })
})
