'use strict'

// A plugin and a transaction as Haraka makes them, by haraka-test-fixtures.

const { makeConnection, makePlugin } = require('haraka-test-fixtures')

// The plugin with these settings; nothing is read from a file.
exports.plugin_with = (ini) => {
  const plugin = makePlugin('addrauth', { register: false })
  plugin.timeout = 30
  plugin.logged = []
  for (const level of ['loginfo', 'lognotice', 'logerror', 'logcrit']) {
    plugin[level] = (...words) => plugin.logged.push(words.join(' '))
  }
  plugin.config = { get: (_name, _options, changed) => ((plugin.changed = changed), ini()) }
  plugin.register()
  return plugin
}

exports.settings = (scanner, more = {}) => ({
  main: { port: scanner.port, timeout: 5, ...more.main },
  defer: { error: true, timeout: true, ...more.defer },
  tls: {},
  auth: more.auth ?? {},
})

// A connection with a transaction that holds this message, as it came over the wire.
exports.connection_with = async (octets, { from = 'alice@send.test', to = ['bob@recv.test'], ...more } = {}) => {
  const connection = makeConnection({ ip: '192.0.2.10', helo: 'client.test', mailFrom: from, rcptTo: to, ...more })
  connection.silent = true
  const txn = connection.transaction
  // Haraka's own bound, which the fixtures leave out.
  txn.cfg = { ...txn.cfg, headers: { ...txn.cfg?.headers, max_lines: 1000 } }
  for (const line of wire_lines(Buffer.from(octets, 'latin1'))) txn.add_data(line)
  await new Promise((resolve) => txn.end_data(resolve))
  return connection
}

function* wire_lines(octets) {
  for (let start = 0; start < octets.length;) {
    const found = octets.indexOf(0x0a, start)
    const end = found === -1 ? octets.length : found + 1
    const line = octets.subarray(start, end)
    // Haraka gives each line in a buffer that it may change.
    yield Buffer.from(line[0] === 0x2e ? Buffer.concat([Buffer.from('.'), line]) : line)
    start = end
  }
}

// What Haraka would hand on.
exports.handed_on = (txn) => new Promise((resolve) => txn.message_stream.get_data(resolve))

// Calls a hook; gives what it answers.
exports.call = (plugin, hook, connection, params) =>
  new Promise((resolve) => plugin[hook]((code, reply) => resolve({ code, reply }), connection, params))
