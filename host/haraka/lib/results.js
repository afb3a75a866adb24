'use strict'

// What Haraka's plugins found out about SPF, DKIM and DMARC, as addrauth reads it: in the field Authentication-Results.
//
// Haraka writes this field before data_post, when DKIM is not looked at yet, and anew behind it. It renames or removes the
// fields that others wrote, but for `Authentication-Results : …`, which its header parser does not know.

const { RESULTS, field_name } = require('./header')
const { put_header } = require('./message')

// Writes the field as Haraka will write it behind data_post, and takes off what Haraka does not see.
exports.write_results = function (connection, txn) {
  const list = txn.header.header_list
  const own = connection.auth_results?.()
  const stays = (entry) => field_name(entry) !== RESULTS || (!own && /^[^\s:]+:/.test(entry))
  const kept = list.filter(stays)
  if (!own && kept.length === list.length) return
  put_header(txn, own ? [`Authentication-Results: ${own}\n`, ...kept] : kept)
}

// The fields of this name that addrauth wrote: Haraka takes them away behind data_post.
exports.results_of = function (header, sent) {
  return header.filter((entry) => field_name(entry) === RESULTS && !sent.list.includes(entry))
}

// Puts them back where they are gone.
exports.keep_results = function (txn, entries) {
  const list = txn.header.header_list
  const gone = entries.filter((entry) => !list.includes(entry))
  if (gone.length) put_header(txn, [...gone, ...list])
}
