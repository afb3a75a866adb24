'use strict'

// What an answer makes of a message, without doing it: the header as it is to be, and the recipients.

const { Malformed } = require('./answer')
const { field_name, split } = require('./header')

// The header that a plan makes of the message that was sent, as Haraka's list; null where it stays as it is.
exports.header_after = function (plan, sent) {
  // The draft's whole message wins over changes of single fields, as with the bridge that speaks it for Postfix.
  if (plan.raw) return header_of(plan.raw, sent)
  if (!plan.header.length) return null
  const list = [...sent.list]
  for (const change of plan.header) change_field(list, change)
  return list
}

function header_of(raw, sent) {
  const parts = split(raw)
  if (!parts) throw new Malformed('the message that it answers has no header that ends')
  if (!raw.subarray(parts.body).equals(sent.raw.subarray(sent.body))) {
    throw new Malformed('it changes the body, which this plugin leaves alone')
  }
  return parts.list
}

function change_field(list, { kind, at, name, value }) {
  const most = kind === 'add' ? list.length : list.length - 1
  const place = at ?? most
  if (place > most) throw new Malformed('it counts more header fields than there are')
  if (kind === 'add') {
    list.splice(place, 0, `${name}:${value}\n`)
  } else if (kind === 'delete') {
    list.splice(place, 1)
  } else {
    const old = /^[^\s:]+/.exec(list[place])[0]
    if (name !== undefined && name.toLowerCase() !== old.toLowerCase()) {
      throw new Malformed('it gives a header field another name')
    }
    list[place] = `${old}:${value}\n`
  }
}

// The recipients that a plan leaves of those that were asked about, and those that it adds, made by make(address).
exports.recipients_after = function (plan, asked, make) {
  const left = [...asked]
  for (const at of plan.gone) {
    if (at >= left.length) throw new Malformed('it counts more recipients than there are')
    left.splice(at, 1)
  }
  const added = plan.added.map((address) => {
    try {
      return make(`<${address}>`)
    } catch (ignore) {
      throw new Malformed('it adds a recipient that is none')
    }
  })
  return [...left, ...added]
}

// The word that addrauth wrote into X-Auth-Key-Status, at the top of what it changed; null where it wrote none.
exports.status_word = function (list) {
  const entry = list?.find((one) => field_name(one) === 'x-auth-key-status')
  return /^[^:]*:\s*([A-Z]{1,16})(?![A-Za-z])/.exec(entry ?? '')?.[1] ?? null
}
