'use strict'

// The way to addrauth's hooks listener: registration, requests and their retries. Errors name what happened, and never what
// was sent or answered.

const http = require('node:http')
const https = require('node:https')

const { is_milter } = require('./probe')
const { PROPERTIES } = require('./request')
const { name, version } = require('../package.json')

// Tries of one request where the scanner is away for a moment, and the pauses before the second and the third.
const PAUSES = [100, 300]
// Requests at the same time; more wait in line.
const MOST_SOCKETS = 64
// Octets of an answer beyond twice the request's: an answer holds the message at most once.
const SPARE_OCTETS = 1024 * 1024
// A registration ends by itself where a Haraka that was killed took none back.
const REGISTERED_MILLISECONDS = 60 * 60 * 1000
// What addrauth takes for the shortest time in which an answer makes sense.
const SHORTEST_MILLISECONDS = 2000
// A registration is renewed so long before it ends.
const RENEW_MILLISECONDS = 5000
// Time for the farewell.
const FAREWELL_MILLISECONDS = 2000
// Pause between two looks at what listens there.
const PROBE_MILLISECONDS = 60 * 1000

class DoorError extends Error {
  // kind: 'error' or 'timeout', as in the section [defer]. again: whether the same request may be tried once more.
  // lasting: another time nothing else would come of it.
  constructor(words, { kind = 'error', again = false, after = null, lasting = false } = {}) {
    super(words)
    Object.assign(this, { kind, again, after, lasting })
  }
}
exports.DoorError = DoorError

const now = () => performance.now()
const pause = (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds))

exports.Door = class {
  #agent
  #cfg
  #registration = null
  #registering = null
  #probed = -Infinity
  #report
  #heard = false

  // report(words): tells the administrator, once a minute at most, what listens there instead of addrauth.
  constructor(cfg, report) {
    this.#cfg = cfg
    this.#report = report
    this.#agent = new (cfg.tls ? https : http).Agent({ keepAlive: true, maxSockets: MOST_SOCKETS })
  }

  // Asks at a stage. id: the same for each try of one question, by which addrauth does a thing once. Gives
  // { status, type, body }; ends by `deadline`, a time of performance.now().
  async ask(id, body, deadline) {
    const octets = Buffer.from(JSON.stringify(body))
    for (let attempt = 0; ; attempt++) {
      try {
        return await this.#ask_registered(id, octets, deadline)
      } catch (error) {
        await this.#look(error)
        const wait = error.after ?? PAUSES[attempt]
        if (!error.again || attempt >= PAUSES.length || now() + wait >= deadline) throw error
        await pause(wait)
      }
    }
  }

  // 404 and 410: the registration is gone, since addrauth was restarted or it ended. Registers again once, and repeats.
  async #ask_registered(id, octets, deadline) {
    for (let again = false; ; again = true) {
      const registration = await this.#registered(deadline)
      const headers = {
        'X-MTA-Hooks-Registration': registration.id,
        'X-MTA-Hooks-Request-Id': id,
        'Content-Type': 'application/json',
      }
      const { status, type, retry_after, body } = await this.#send('POST', registration.hook, headers, octets, deadline)
      if (status === 200 || status === 204) return { status, type, body }
      if ((status === 404 || status === 410) && !again) {
        if (this.#registration === registration) this.#registration = null
        continue
      }
      throw refused(`answers ${status} to a request`, status, retry_after)
    }
  }

  #registered(deadline) {
    if (this.#registration && this.#registration.ends > Date.now()) return this.#registration
    // All who wait at the same time wait for one registration; a caller whose time ends sees that in #send.
    this.#registering ??= this.#register(deadline).finally(() => {
      this.#registering = null
    })
    return this.#registering
  }

  async #register(deadline) {
    const { path, stages, milliseconds } = this.#cfg
    const wanted = {
      name,
      version,
      timeoutMs: Math.max(milliseconds, SHORTEST_MILLISECONDS),
      expiresAt: new Date(Date.now() + REGISTERED_MILLISECONDS).toISOString(),
      serialization: 'json',
      inbound: { stages, properties: PROPERTIES },
      outbound: null,
    }
    const octets = Buffer.from(JSON.stringify(wanted))
    const headers = { 'Content-Type': 'application/json' }
    const said = await this.#send('POST', `${path}/registrations`, headers, octets, deadline)
    if (said.status !== 201) throw refused(`answers ${said.status} to a registration`, said.status, said.retry_after)
    this.#registration = parse_registration(said.body, this.#cfg)
    return this.#registration
  }

  // Takes the registration back, and closes what is open. It never fails.
  async close() {
    const registration = this.#registration
    this.#registration = null
    try {
      if (!registration) return
      const headers = { 'X-MTA-Hooks-Registration': registration.id }
      await this.#send('DELETE', registration.farewell, headers, null, now() + FAREWELL_MILLISECONDS)
    } catch (ignore) {
      // It ends by itself.
    } finally {
      this.#agent.destroy()
    }
  }

  // Where nothing ever answered in HTTP: does a milter listen there?
  async #look(error) {
    if (this.#heard || now() - this.#probed < PROBE_MILLISECONDS) return
    this.#probed = now()
    if (!(await is_milter(this.#cfg.options))) return
    const words = `${this.#cfg.where} speaks the milter protocol and not HTTP: give the address of addrauth's hooks listener, not of its milter`
    this.#report(words)
    error.message = words
    error.again = false
  }

  #send(method, path, headers, octets, deadline) {
    const { options, where, token, tls } = this.#cfg
    const most = 2 * (octets?.length ?? 0) + SPARE_OCTETS
    return new Promise((resolve, reject) => {
      const left = deadline - now()
      if (left <= 0) return reject(new DoorError(`${where} does not answer in time`, { kind: 'timeout' }))
      const request = (tls ? https : http).request({
        ...options,
        agent: this.#agent,
        method,
        path,
        headers: {
          ...headers,
          Accept: 'application/json',
          'Content-Length': octets?.length ?? 0,
          ...(token ? { Authorization: `Bearer ${token}` } : {}),
        },
      })
      const timer = setTimeout(() => fail(new DoorError(`${where} does not answer in time`, { kind: 'timeout' })), left)
      const fail = (error) => {
        clearTimeout(timer)
        reject(error)
        request.destroy()
      }
      request.on('error', (error) => fail(unreachable(where, error)))
      request.on('response', (response) => {
        this.#heard = true
        const chunks = []
        let length = 0
        response.on('data', (chunk) => {
          length += chunk.length
          if (length > most) return fail(new DoorError(`${where} answers more than it can have to say`))
          chunks.push(chunk)
        })
        response.on('error', (error) => fail(unreachable(where, error)))
        response.on('end', () => {
          clearTimeout(timer)
          resolve({
            status: response.statusCode,
            type: response.headers['content-type'],
            retry_after: response.headers['retry-after'],
            body: Buffer.concat(chunks, length),
          })
        })
      })
      request.end(octets ?? undefined)
    }).catch((error) => {
      throw error instanceof DoorError ? error : new DoorError(`${where} cannot be asked`)
    })
  }
}

// A failure of the connection, by its code: some texts of node:http quote what they read.
function unreachable(where, error) {
  const code = /^[A-Z][A-Z0-9_]*$/.test(error.code ?? '') ? error.code : 'no code'
  if (code.startsWith('HPE_')) return new DoorError(`${where} does not speak HTTP (${code})`)
  return new DoorError(`${where} cannot be reached (${code})`, { again: true })
}

const MEANINGS = {
  401: 'is the bearer token right?',
  403: 'the registration belongs to another token',
  404: 'is that the hooks listener of addrauth, and its dialect draft-01? See `path`',
  413: 'the message is too large for it',
}

function refused(words, status, retry_after) {
  const meaning = MEANINGS[status] ? `: ${MEANINGS[status]}` : ''
  const again = status >= 500 || status === 429
  const after = again && /^\d{1,4}$/.test(retry_after ?? '') ? Number(retry_after) * 1000 : null
  return new DoorError(`addrauth ${words}${meaning}`, { again, after, lasting: status === 413 })
}

// What a registration was answered: { id, hook, farewell, ends }.
function parse_registration(body, { path, where }) {
  let said
  try {
    said = JSON.parse(body.toString('utf8'))
  } catch (ignore) {
    throw new DoorError('addrauth answers no JSON to a registration')
  }
  const id = said?.registrationId
  if (typeof id !== 'string' || !/^[A-Za-z0-9_:-]{1,255}$/.test(id)) {
    throw new DoorError('addrauth answers a registration without an id')
  }
  if (said.status !== 'active') throw new DoorError('addrauth answers a registration that is not active')
  const farewell = said.endpoints?.deregistration ?? `${path}/registrations/${id}`
  const ends = Date.parse(said.expiresAt ?? '') || Infinity
  return {
    id,
    hook: path_of(said.hookEndpoint ?? `${path}/hook`, where),
    farewell: path_of(farewell, where),
    ends: ends - RENEW_MILLISECONDS,
  }
}

// The path of an endpoint: a URL counts by its path alone, since the message goes to the configured address and no other.
function path_of(endpoint, where) {
  try {
    const base = where.startsWith('unix:') ? 'http://localhost' : where
    return new URL(String(endpoint), base).pathname
  } catch (ignore) {
    throw new DoorError('addrauth answers a registration with an endpoint that is none')
  }
}
