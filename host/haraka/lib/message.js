'use strict'

// A message as Haraka is about to hand it on, its octets; and its header, when some of it changes.
//
// Haraka keeps the header as a list of texts, one for each field or line that is none. What it hands on is this list, and
// behind it the body as it came; the header's other members are indexes of the list. So the list alone is changed, at the
// places that change, and the indexes of the names on it. `remove_header` is of no use: it leaves `X-Auth-Key :` where it is.

const { Writable } = require('node:stream')

const { field_name, split } = require('./header')

// Octets of a message above which nothing is read; Haraka's own bound, max.bytes, is 25 MiB.
const MOST_OCTETS = 256 * 1024 * 1024
const NO_INDEX = new Set(['__proto__', 'constructor', 'prototype'])

class Unreadable extends Error {}
exports.Unreadable = Unreadable

const is_field = (entry) => field_name(entry) !== null

// Takes those lines off the header that are no fields, each with its folds. addrauth's header ends at the first of them,
// while Haraka, and readers behind it, look for fields beyond: these would be fields that nobody examined.
exports.keep_fields = function (txn) {
  const { header_list } = txn.header
  const list = header_list.filter(is_field)
  if (list.length !== header_list.length) exports.put_header(txn, list)
}

// Reads the message of a transaction: { raw, list, body }, its octets, its header as Haraka keeps it, and where the body
// begins. Ends by itself where signal is aborted.
exports.read = async function (txn, signal) {
  const raw = await octets_of(txn.message_stream, signal)
  const parts = split(raw)
  if (!parts) throw new Unreadable('the message has no header that ends')
  if (!parts.list.every(is_field)) throw new Unreadable('the header holds lines that are no fields')
  return { raw, ...parts }
}

// Haraka's stream emits its own errors, and without a listener they would end the process.
function octets_of(stream, signal) {
  return new Promise((resolve, reject) => {
    const chunks = []
    let length = 0
    const sink = new Writable({
      write(chunk, _encoding, done) {
        length += chunk.length
        chunks.push(chunk)
        done(length > MOST_OCTETS ? new Unreadable('the message is too large') : null)
      },
    })
    const end = (error) => {
      signal?.removeEventListener('abort', on_abort)
      stream.removeListener('error', on_error)
      if (!error) return resolve(Buffer.concat(chunks, length))
      stream.unpipe?.()
      sink.destroy()
      reject(error)
    }
    const on_error = () => end(new Unreadable('Haraka cannot read the message'))
    const on_abort = () => end(new Unreadable('Haraka did not read the message in time'))
    signal?.addEventListener('abort', on_abort, { once: true })
    stream.on('error', on_error)
    sink.on('error', end)
    sink.on('finish', () => end(null))
    stream.pipe(sink)
  })
}

// Makes this list the header of a transaction.
exports.put_header = function (txn, list) {
  const { header, message_stream } = txn
  // With no field left Haraka would hand the header on as it came, keys included.
  if (!list.length) throw new Unreadable('no header field is left')
  if (message_stream.headers && message_stream.headers !== header.header_list) {
    throw new Unreadable('this version of Haraka keeps the header elsewhere')
  }
  const before = values_by_name(header.header_list)
  const after = values_by_name(list)
  header.header_list.length = 0
  for (const entry of list) header.header_list.push(entry)
  for (const name of new Set([...before.keys(), ...after.keys()])) {
    const values = after.get(name) ?? []
    if (!same(before.get(name) ?? [], values)) index(header, name, values)
  }
  if (txn.found_hb_sep) txn.reset_headers?.()
}

const same = (one, other) => one.length === other.length && one.every((value, at) => value === other[at])

// The values of each field name in a list, as Haraka finds them when it parses a header.
function values_by_name(list) {
  const values = new Map()
  for (const entry of list) {
    const match = /^([^\s:]*):\s*([\s\S]*)$/.exec(entry.replace(/\r\n/g, '\n'))
    const name = match?.[1].toLowerCase()
    if (!match || NO_INDEX.has(name)) continue
    if (!values.has(name)) values.set(name, [])
    values.get(name).push(match[2])
  }
  return values
}

function index(header, name, values) {
  if (!values.length) {
    delete header.headers[name]
    delete header.headers_decoded[name]
    return
  }
  header.headers[name] = values
  header.headers_decoded[name] = values.map((value) => header.decode_header(value))
}
