'use strict'

const assert = require('node:assert/strict')
const { existsSync, mkdtempSync, readFileSync, rmSync } = require('node:fs')
const https = require('node:https')
const net = require('node:net')
const { tmpdir } = require('node:os')
const path = require('node:path')
const { afterEach, describe, it } = require('node:test')

const { parse_config } = require('../lib/config')
const { Door } = require('../lib/door')
const { accept, Scanner } = require('../stand/scanner')

// Certificates of addrauth's test vectors, beside the sources.
const STUB = path.resolve(__dirname, '..', '..', '..', 'tests', 'vectors', 'stub')
const KEY = 'Vb3kQ9w2Zr7tYp0sXn4mLc8dHf1gJa6eUi5oRk2y'
const open = []
afterEach(async () => {
  for (const one of open.splice(0).reverse()) await one()
})

async function scanner(script, register, unix) {
  const one = await new Scanner(script, register).start(unix)
  open.push(() => one.stop())
  return one
}

function door(main, auth = {}, tls = {}) {
  const told = []
  const one = new Door(parse_config({ main, auth, tls }, 30), (words) => told.push(words))
  open.push(() => one.close())
  return { one, told, ask: (id = 'id-1', wait = 3000) => one.ask(id, { stage: 'data' }, performance.now() + wait) }
}

async function listener(serve) {
  const sockets = new Set()
  const server = net.createServer((socket) => {
    sockets.add(socket)
    socket.on('error', () => {})
    serve(socket)
  })
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve))
  open.push(async () => {
    for (const socket of sockets) socket.destroy()
    await new Promise((resolve) => server.close(resolve))
  })
  return server.address().port
}

describe('the door', () => {
  it('is registered with once, by the first message, and said farewell to', async () => {
    const played = await scanner(accept)
    const { one, ask } = door({ port: played.port }, { token: 'secret' })
    assert.equal(played.registered.length, 0)
    const said = await Promise.all([ask('id-1'), ask('id-2'), ask('id-3')])
    assert.deepEqual(
      said.map((answer) => answer.status),
      [200, 200, 200],
    )
    assert.equal(played.registered.length, 1)
    const [registration] = played.registered
    assert.equal(registration.path, '/draft-01/registrations')
    assert.equal(registration.headers.authorization, 'Bearer secret')
    assert.equal(registration.body.name, 'haraka-plugin-addrauth')
    assert.deepEqual(registration.body.inbound.stages, ['data'])
    assert.equal(registration.body.timeoutMs, 20000)
    assert.ok(registration.body.inbound.properties.includes('/rawMessage'))
    const [asked] = played.asked
    assert.equal(asked.path, '/draft-01/hook')
    assert.equal(asked.headers['x-mta-hooks-registration'], 'reg-1')
    assert.equal(asked.headers['x-mta-hooks-request-id'], 'id-1')
    assert.equal(asked.headers.authorization, 'Bearer secret')
    await one.close()
    assert.equal(played.deleted[0].path, '/draft-01/registrations/reg-1')
    assert.equal(played.deleted[0].headers['x-mta-hooks-registration'], 'reg-1')
    await one.close()
    assert.equal(played.deleted.length, 1)
  })

  it('is found on a unix socket', async () => {
    const folder = mkdtempSync(path.join(tmpdir(), 'addrauth-'))
    open.push(async () => rmSync(folder, { recursive: true, force: true }))
    const socket = path.join(folder, 'hooks')
    await scanner(accept, undefined, socket)
    assert.equal((await door({ unix_socket: socket }).ask()).status, 200)
    await assert.rejects(door({ unix_socket: `${socket}-away` }).ask(), /unix:.*cannot be reached \(ENOENT\)/)
  })

  it('registers again where its registration is gone, and repeats the same request', async () => {
    for (const status of [404, 410]) {
      const played = await scanner((_body, _seen, count) => (count === 2 ? { status, json: {} } : accept()))
      const { ask } = door({ port: played.port })
      await ask('id-1')
      assert.equal((await ask('id-2')).status, 200)
      assert.equal(played.registered.length, 2)
      const [, first, second] = played.asked
      assert.equal(second.headers['x-mta-hooks-registration'], 'reg-2')
      assert.equal(second.headers['x-mta-hooks-request-id'], first.headers['x-mta-hooks-request-id'])
      assert.deepEqual(second.body, first.body)
    }
    const gone = await scanner(() => ({ status: 404, json: {} }))
    await assert.rejects(door({ port: gone.port }).ask(), /answers 404 to a request/)
    assert.equal(gone.registered.length, 2)
  })

  it('renews a registration that ends', async () => {
    const ends = (seconds) => () => ({
      status: 201,
      json: { registrationId: 'reg-1', status: 'active', expiresAt: new Date(Date.now() + seconds * 1000) },
    })
    for (const [seconds, registrations] of [
      [4, 2],
      [3600, 1],
    ]) {
      const played = await scanner(accept, ends(seconds))
      played.live.add('reg-1')
      const { ask } = door({ port: played.port })
      await ask()
      await ask()
      assert.equal(played.registered.length, registrations)
    }
  })

  it('tries again what may be better the next time, with the same id and the same octets', async () => {
    for (const trouble of [{ status: 503, json: {} }, { status: 429, headers: { 'Retry-After': '0' } }, 'cut']) {
      const played = await scanner((_body, _seen, count) => (count < 3 ? trouble : accept()))
      assert.equal((await door({ port: played.port }).ask()).status, 200)
      assert.equal(played.asked.length, 3)
      for (const { headers, body } of played.asked) {
        assert.equal(headers['x-mta-hooks-request-id'], 'id-1')
        assert.deepEqual(body, played.asked[0].body)
      }
    }
    const down = await scanner(() => ({ status: 500, json: { key: KEY } }))
    await assert.rejects(door({ port: down.port }).ask(), (error) => !error.message.includes(KEY))
    assert.equal(down.asked.length, 3)
    const patient = await scanner(() => ({ status: 429, headers: { 'Retry-After': '60' } }))
    await assert.rejects(door({ port: patient.port }).ask(), /429/)
    assert.equal(patient.asked.length, 1)
  })

  it('tries once what will be no better, and says why', async () => {
    for (const [status, words, lasting] of [
      [401, /answers 401 to a request: is the bearer token right/, false],
      [403, /another token/, false],
      [409, /answers 409/, false],
      [413, /too large/, true],
      [422, /answers 422/, false],
      [302, /answers 302/, false],
    ]) {
      const played = await scanner(() => ({ status, json: {} }))
      await assert.rejects(door({ port: played.port }).ask(), (error) => {
        assert.match(error.message, words)
        assert.equal(error.lasting, lasting)
        return error.kind === 'error'
      })
      assert.equal(played.asked.length, 1)
    }
  })

  it('takes no registration that is none', async () => {
    for (const [said, words] of [
      [{ status: 404, json: {} }, /to a registration: is that the hooks listener/],
      [{ status: 401, json: {} }, /bearer token/],
      [{ status: 200, json: { registrationId: 'a', status: 'active' } }, /answers 200/],
      [{ status: 201, body: KEY }, /no JSON/],
      [{ status: 201, json: { status: 'active' } }, /without an id/],
      [{ status: 201, json: { registrationId: 'a\r\nb', status: 'active' } }, /without an id/],
      [{ status: 201, json: { registrationId: 'a', status: 'suspended' } }, /not active/],
      [{ status: 201, json: { registrationId: 'a', status: 'active', hookEndpoint: 'http://[' } }, /endpoint/],
    ]) {
      const played = await scanner(accept, () => said)
      await assert.rejects(door({ port: played.port }).ask(), (error) => {
        assert.match(error.message, words)
        return !error.message.includes(KEY)
      })
      assert.equal(played.asked.length, 0)
    }
  })

  it('sends the message to the configured address alone, whatever the registration names', async () => {
    const endpoint = 'http://elsewhere.test:1/draft-01/hook'
    const played = await scanner(accept, () => ({
      status: 201,
      json: {
        registrationId: 'reg-1',
        status: 'active',
        hookEndpoint: endpoint,
        endpoints: { deregistration: '/bye' },
      },
    }))
    played.live.add('reg-1')
    const { one, ask } = door({ port: played.port })
    assert.equal((await ask()).status, 200)
    assert.equal(played.asked[0].path, '/draft-01/hook')
    await one.close()
    assert.equal(played.deleted[0].path, '/bye')
  })

  it('waits as long as it may, and no longer', async () => {
    const played = await scanner(() => 'hang')
    const { ask } = door({ port: played.port })
    const begin = performance.now()
    await assert.rejects(ask('id-1', 300), (error) => error.kind === 'timeout' && /in time/.test(error.message))
    assert.ok(performance.now() - begin < 2000)
    assert.equal(played.asked.length, 1)
    await assert.rejects(ask('id-2', -1), (error) => error.kind === 'timeout')
    const still = await scanner(accept, () => 'hang')
    await assert.rejects(door({ port: still.port }).ask('id-1', 200), (error) => error.kind === 'timeout')
  })

  it('reads no more than an answer can have to say', async () => {
    const played = await scanner(() => ({ body: 'x'.repeat(2 * 1024 * 1024) }))
    await assert.rejects(door({ port: played.port }).ask(), /more than it can have to say/)
  })

  it('says in words that a milter listens there', async () => {
    const milter = await listener((socket) => {
      socket.on('data', (chunk) => {
        // As addrauth's milter: a frame of an unbelievable length ends the connection.
        if (chunk[0] !== 0) return socket.destroy()
        socket.write(Buffer.from([0, 0, 0, 13, 0x4f, 0, 0, 0, 6, 0, 0, 0, 0x3d, 0, 0, 0, 0]))
      })
    })
    const { ask, told } = door({ port: milter })
    await assert.rejects(
      ask(),
      /speaks the milter protocol and not HTTP: give the address of addrauth's hooks listener/,
    )
    assert.equal(told.length, 1)
    await assert.rejects(ask(), /cannot be reached/)
    assert.equal(told.length, 1)
  })

  it('says in words what does not speak HTTP, and quotes nothing of it', async () => {
    const smtp = await listener((socket) => socket.end(`220 ${KEY}\r\n`))
    await assert.rejects(door({ port: smtp }).ask(), (error) => {
      assert.match(error.message, /does not speak HTTP \(HPE_/)
      return !error.message.includes(KEY)
    })
    const silent = await listener(() => {})
    await assert.rejects(door({ port: silent }).ask('id-1', 200), (error) => error.kind === 'timeout')
    const cut = await listener((socket) =>
      socket.write('HTTP/1.1 201 Created\r\nContent-Length: 9\r\n\r\n{', () => socket.destroy()),
    )
    await assert.rejects(door({ port: cut }).ask(), /cannot be reached/)
  })

  it('survives a farewell to nobody', async () => {
    const played = await scanner(accept)
    const { one, ask } = door({ port: played.port })
    await ask()
    await played.stop()
    open.shift()
    await one.close()
  })

  it(
    'speaks TLS where it is told to, and believes a certificate that it was given',
    { skip: !existsSync(STUB) },
    async () => {
      const file = (name) => path.join(STUB, name)
      const server = https.createServer({ key: readFileSync(file('as.key')), cert: readFileSync(file('as.pem')) })
      const played = new Scanner(accept)
      server.on('request', (request, response) => played.serve(request, response))
      await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve))
      open.push(() => new Promise((resolve) => server.close(resolve) && server.closeAllConnections()))
      const main = { port: server.address().port, scheme: 'https' }
      const tls = { ca_file: file('root.pem'), servername: 'as.example.com' }
      assert.equal((await door(main, {}, tls).ask()).status, 200)
      await assert.rejects(
        door(main, {}, { ...tls, servername: 'mx.example.com' }).ask(),
        /ERR_TLS_CERT_ALTNAME_INVALID/,
      )
      await assert.rejects(door(main).ask(), /https:.*cannot be reached/)
      assert.equal((await door(main, {}, { reject_unauthorized: false }).ask()).status, 200)
    },
  )
})
