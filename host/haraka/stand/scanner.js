'use strict'

// A scripted scanner of draft-01: it stands in for addrauth's hooks listener.

const http = require('node:http')

const { STATUS, strip } = require('../lib/header')

exports.Scanner = class {
  // script(body, request, count): what is answered to a request of a hook: { status, json, body, type, headers }, 'hang' or
  // 'cut'. register(body, request, count): the same for a registration; undefined for the usual one.
  constructor(script, register = () => undefined) {
    this.script = script
    this.register = register
    this.asked = []
    this.registered = []
    this.deleted = []
    this.live = new Set()
    this.server = http.createServer((request, response) => this.serve(request, response))
    this.sockets = new Set()
    this.server.on('connection', (socket) => {
      this.sockets.add(socket)
      socket.on('close', () => this.sockets.delete(socket))
    })
  }

  async start(path) {
    await new Promise((resolve) => this.server.listen(path ?? 0, path ? undefined : '127.0.0.1', resolve))
    this.port = path ? 0 : this.server.address().port
    return this
  }

  async stop() {
    for (const socket of this.sockets) socket.destroy()
    await new Promise((resolve) => this.server.close(resolve))
  }

  async serve(request, response) {
    const chunks = []
    for await (const chunk of request) chunks.push(chunk)
    const octets = Buffer.concat(chunks)
    const body = octets.length ? JSON.parse(octets) : null
    const seen = { method: request.method, path: request.url, headers: request.headers, body }
    send(response, this.answer(seen))
  }

  answer(seen) {
    if (seen.method === 'DELETE') {
      this.deleted.push(seen)
      return { status: 204 }
    }
    if (seen.path.endsWith('/registrations')) {
      this.registered.push(seen)
      const id = `reg-${this.registered.length}`
      const said = this.register(seen.body, seen, this.registered.length)
      if (said === undefined) this.live.add(id)
      return said ?? { status: 201, json: { registrationId: id, status: 'active', hookEndpoint: '/draft-01/hook' } }
    }
    this.asked.push(seen)
    if (!this.live.has(seen.headers['x-mta-hooks-registration'])) return { status: 404, json: {} }
    return this.script(seen.body, seen, this.asked.length)
  }
}

function send(response, said) {
  if (said === 'hang') return
  if (said === 'cut') return response.destroy()
  const body = said.body ?? (said.json === undefined ? '' : JSON.stringify(said.json))
  response.writeHead(said.status ?? 200, { 'Content-Type': said.type ?? 'application/json', ...said.headers })
  response.end(body)
}

const json = (json) => ({ json })

exports.accept = () => json({})
exports.reject = (code, enhancedCode, message) =>
  json({
    set: [
      { path: '/action', value: 'reject' },
      { path: '/response', value: { code, enhancedCode, message } },
    ],
  })
exports.action = (value) => json({ set: [{ path: '/action', value }] })

// What addrauth does with a message that it delivers: keys off, forged results off, its own on top.
exports.stripped = (body, word, more = {}) => {
  const raw = strip(Buffer.from(body.rawMessage, 'base64'), ['x-auth-key', STATUS])
  const status = Buffer.from(`X-Auth-Key-Status: ${word}; address=alice@send.test; by=mx.recv.test\r\n`)
  return json({ set: [{ path: '/rawMessage', value: Buffer.concat([status, raw]).toString('base64') }], ...more })
}
