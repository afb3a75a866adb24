'use strict'

// What is asked: the body of a request, of draft-degennaro-mta-hooks-01, from what Haraka knows.

// The members of a request that this plugin can give.
exports.PROPERTIES = [
  '/stage',
  '/action',
  '/timestamp',
  '/protocol',
  '/rawMessage',
  '/envelope',
  '/queue',
  '/client',
  '/tls',
  '/auth',
  '/server',
]

// An address's text without its angle brackets: a method before Haraka 3.2, a getter since.
exports.address_text = function (address) {
  const text = typeof address?.address === 'function' ? address.address() : address?.address
  return String(text ?? '')
}

// ESMTP parameters: an absent value is empty, as in the draft.
function parameters(params) {
  return Object.fromEntries(Object.entries(params ?? {}).map(([name, value]) => [name, value ?? '']))
}

// The client's name where it leads back to the client's address, else null. Haraka's own name is the first answer of the
// reverse zone, which the client writes; its plugin fcrdns looks the names up. The plugin's list of names has such as lead
// into the client's network only, so the address is looked for as well.
function confirmed_name(connection) {
  const { remote = {}, results } = connection
  const name = String(remote.host ?? '').toLowerCase()
  const found = results?.get?.('fcrdns')
  if (!name || ![found?.fcrdns].flat().includes(name)) return null
  const addresses = found.ptr_name_to_ip
  if (!addresses || !Object.hasOwn(addresses, name)) return null
  return [addresses[name]].flat().includes(remote.ip) ? remote.host : null
}

function client_of(connection) {
  const { remote = {}, hello = {} } = connection
  return {
    ip: remote.ip ?? null,
    port: remote.port ?? 0,
    ptr: confirmed_name(connection),
    ehlo: hello.host ?? null,
    activeConnections: 0,
  }
}

function tls_of(connection) {
  const { tls } = connection
  if (!tls?.enabled) return null
  const { cipher = {} } = tls
  return {
    version: cipher.version ?? null,
    cipher: cipher.standardName ?? cipher.name ?? null,
    cipherBits: null,
    certIssuer: null,
    certSubject: null,
  }
}

function auth_of(connection) {
  const login = connection.notes?.auth_user
  if (!login) return null
  const method = connection.notes.auth_method ?? connection.results?.get?.('auth')?.method ?? null
  return { login: String(login), method }
}

// The body of a request. facts: what MAIL and RCPT said beside addresses (mail, and rcpt by recipient). raw: the message,
// null before there is one.
exports.build_request = function (stage, connection, txn, facts, raw) {
  const { local = {} } = connection
  return {
    stage,
    action: 'accept',
    timestamp: new Date().toISOString(),
    protocol: { version: '1.0' },
    queue: { id: txn.uuid },
    envelope: {
      from: { address: exports.address_text(txn.mail_from) || null, parameters: parameters(facts.mail) },
      to: txn.rcpt_to.map((recipient) => ({
        address: exports.address_text(recipient),
        parameters: parameters(facts.rcpt.get(recipient)),
      })),
    },
    rawMessage: raw ? raw.toString('base64') : null,
    client: client_of(connection),
    server: { name: local.host ?? null, ip: local.ip ?? null, port: local.port ?? 0 },
    tls: tls_of(connection),
    auth: auth_of(connection),
  }
}
