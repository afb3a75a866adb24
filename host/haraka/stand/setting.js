'use strict'

// A plugin with a played scanner behind it, and the message that most tests send.

const assert = require('node:assert/strict')
const { afterEach } = require('node:test')

const { Scanner } = require('./scanner')
const { handed_on, plugin_with, settings } = require('./transaction')

const KEY = 'Vb3kQ9w2Zr7tYp0sXn4mLc8dHf1gJa6eUi5oRk2y'
const MESSAGE = [
  'Received: from client.test\r\n\tby mx.test\r\n',
  `X-Auth-Key: ${KEY}\r\n`,
  'From: Alice <alice@send.test>\r\n',
  `x-auth-key :\r\n\t${KEY}\r\n`,
  'X-Auth-Key-Status: VALIDKEY; forged\r\n',
  'Subject: caf\xc3\xa9\r\n folded\r\n',
  '\r\n',
  'hello \xe9\r\n.dot\r\n..two\r\nend\r\n',
].join('')
const REST = [
  'Received: from client.test\r\n\tby mx.test\r\n',
  'From: Alice <alice@send.test>\r\n',
  'Subject: caf\xc3\xa9\r\n folded\r\n',
  '\r\n',
  'hello \xe9\r\n.dot\r\n..two\r\nend\r\n',
].join('')

const open = []
afterEach(async () => {
  for (const one of open.splice(0).reverse()) await one()
})

async function setting(script, more) {
  const scanner = await new Scanner(script).start()
  const plugin = plugin_with(() => settings(scanner, more))
  open.push(
    () => scanner.stop(),
    () => plugin.shutdown(),
  )
  return { scanner, plugin }
}

const text = async (txn) => (await handed_on(txn)).toString('latin1')
const results = (connection) => connection.transaction.results.get('addrauth') ?? {}
const quiet = (connection, plugin) =>
  assert.ok(!JSON.stringify([results(connection), plugin.logged]).includes(KEY), 'a key stands in a log')

module.exports = { KEY, MESSAGE, REST, open, quiet, results, setting, text }
