'use strict'

// The header block of a message: where its fields are, and how to take some out without touching another octet.
//
// A field begins with a name of octets 33 to 126 without colon, blanks, and a colon; lines that begin with SP or TAB fold
// it; the first other line ends the block. addrauth's own scanner reads headers the same way, and both are tried on
// tests/cases/strip.json.

const LF = 0x0a
const CR = 0x0d

// The fields that must not reach a recipient where nobody examined the message: the key, and what claims a result.
exports.KEY = 'x-auth-key'
exports.NEW_KEY = 'x-new-auth-key'
exports.STATUS = 'x-auth-key-status'
exports.MARK = 'x-addrauth-mark'
// The field that tells other programs of results.
exports.RESULTS = 'authentication-results'

// The name of the field that begins with this line, in lower case; null where the line begins no field.
exports.field_name = function (line) {
  return /^([!-9;-~]+)[ \t]*:/.exec(line)?.[1].toLowerCase() ?? null
}

// The lines of a message, each with its ending, as [start, end]; the last one may have none.
function* lines(octets) {
  let start = 0
  while (start < octets.length) {
    const found = octets.indexOf(LF, start)
    const end = found === -1 ? octets.length : found + 1
    yield [start, end]
    start = end
  }
}

// Whether the line from start to end is empty but for its ending.
function is_empty(octets, start, end) {
  if (octets[end - 1] !== LF) return false
  return end - start === 1 || (end - start === 2 && octets[start] === CR)
}

const folds = (octet) => octet === 0x20 || octet === 0x09

// Reads the header block: its fields, top first, as { name, start, end }; where it ends; and what ended it: 'blank',
// 'junk' (a line that is no field) or 'message'.
exports.scan = function (octets) {
  const fields = []
  for (const [start, end] of lines(octets)) {
    if (is_empty(octets, start, end)) return { fields, end: start, ending: 'blank' }
    const name = exports.field_name(octets.toString('latin1', start, end))
    if (name !== null) {
      fields.push({ name, start, end })
    } else if (fields.length && folds(octets[start])) {
      fields[fields.length - 1].end = end
    } else {
      return { fields, end: start, ending: 'junk' }
    }
  }
  return { fields, end: octets.length, ending: 'message' }
}

// The message without the fields of these names (in lower case); every other octet stays.
exports.strip = function (octets, names) {
  const { fields, end } = exports.scan(octets)
  const kept = fields.filter((field) => !names.includes(field.name))
  return Buffer.concat([...kept.map((field) => octets.subarray(field.start, field.end)), octets.subarray(end)])
}

// What stands before the first empty line, one text for each line that does not fold the one before it, and where the
// body begins. Haraka keeps a header as such a list, in which lines that are no fields stand too. Null where no empty line
// ends the header, or where its first line is a fold.
exports.split = function (octets) {
  const places = []
  for (const [start, end] of lines(octets)) {
    if (is_empty(octets, start, end)) {
      const list = places.map((place) => octets.toString('utf8', ...place).replace(/\r\n/g, '\n'))
      return { list, body: end }
    }
    if (!folds(octets[start])) {
      places.push([start, end])
    } else if (places.length) {
      places[places.length - 1][1] = end
    } else {
      return null
    }
  }
  return null
}

// The entries of such a list that are no fields of these names.
exports.without = function (list, names) {
  return list.filter((entry) => !names.includes(exports.field_name(entry)))
}
