'use strict'

// config/addrauth.ini, checked: what it says in words where it cannot be.

const fs = require('node:fs')

// Seconds that Haraka's own time for a hook is longer than ours, so that this plugin answers and not the clock.
const SPARE_SECONDS = 2
// Where Haraka sets no time for a hook; its default.
const HOOK_SECONDS = 30

exports.BOOLEANS = ['-main.rcpt', '+defer.error', '+defer.timeout', '+tls.reject_unauthorized']

// Reads a file for the configuration; the error names the setting, not what the file holds.
function read_file(setting, path) {
  try {
    return fs.readFileSync(path)
  } catch (err) {
    throw new Error(`addrauth.ini: ${setting}: ${path} cannot be read (${err.code})`, { cause: err })
  }
}

function parse_port(value) {
  const port = Number(value)
  if (Number.isInteger(port) && port > 0 && port < 65536) return port
  throw new Error(`addrauth.ini: main.port is ${value}, and must be the port of addrauth's hooks listener`)
}

// Where the door is, as options of node:http, and in words.
function parse_address(main, tls) {
  if (main.unix_socket) return { options: { socketPath: String(main.unix_socket) }, where: `unix:${main.unix_socket}` }
  if (!main.port)
    throw new Error('addrauth.ini: main.port or main.unix_socket must name the hooks listener of addrauth')
  const host = String(main.host ?? '127.0.0.1')
  const port = parse_port(main.port)
  const scheme = String(main.scheme ?? 'http').toLowerCase()
  if (scheme !== 'http' && scheme !== 'https') throw new Error(`addrauth.ini: main.scheme is ${scheme}: http or https`)
  const options = { host, port }
  if (scheme === 'https') {
    options.rejectUnauthorized = tls.reject_unauthorized !== false
    if (tls.servername) options.servername = String(tls.servername)
    if (tls.ca_file) options.ca = read_file('tls.ca_file', tls.ca_file)
  }
  return { options, where: `${scheme}://${host.includes(':') ? `[${host}]` : host}:${port}`, tls: scheme === 'https' }
}

function parse_token(auth) {
  const token = auth.token_file
    ? read_file('auth.token_file', auth.token_file).toString('latin1').trim()
    : String(auth.token ?? '').trim()
  if (!token) return null
  if (/^[\x21-\x7e]+$/.test(token)) return token
  throw new Error('addrauth.ini: the bearer token holds characters that no HTTP header can')
}

function parse_seconds(value, hook_seconds) {
  const most = Math.max(1, (hook_seconds || HOOK_SECONDS) - SPARE_SECONDS)
  const seconds = value === undefined ? Math.min(20, most) : Number(value)
  if (!(seconds > 0)) throw new Error(`addrauth.ini: main.timeout is ${value}, and must be seconds`)
  return Math.min(seconds, most)
}

// What Haraka read of the file as settings, or an error that names the setting. hook_seconds: Haraka's time for a hook.
exports.parse_config = function (ini, hook_seconds) {
  const { main = {}, defer = {}, tls = {}, auth = {} } = ini
  const path = String(main.path ?? '/draft-01').replace(/\/+$/, '')
  if (!/^(\/[A-Za-z0-9._~-]+)+$/.test(path)) throw new Error(`addrauth.ini: main.path is ${path}: /draft-01 is usual`)
  const fail = String(main.fail ?? 'defer').toLowerCase()
  if (fail !== 'defer' && fail !== 'strip') {
    throw new Error(`addrauth.ini: main.fail is ${fail}: defer, or strip to let mail through without its key`)
  }
  return {
    ...parse_address(main, tls),
    path,
    token: parse_token(auth),
    milliseconds: Math.round(parse_seconds(main.timeout, hook_seconds) * 1000),
    stages: main.rcpt ? ['rcpt', 'data'] : ['data'],
    strip: {
      error: fail === 'strip' || defer.error === false,
      timeout: fail === 'strip' || defer.timeout === false,
    },
  }
}
