'use strict'

// Whether a milter listens at an address: the usual mistake is to give this plugin the port that Postfix was given.

const net = require('node:net')

// A milter's first packet: option negotiation, version 6, no actions, no steps left out.
const NEGOTIATION = Buffer.from([0, 0, 0, 13, 0x4f, 0, 0, 0, 6, 0, 0, 0, 0, 0, 0, 0, 0])
const WAIT_MILLISECONDS = 1000

// options: as of node:http, host and port or socketPath. It never fails.
exports.is_milter = function ({ host, port, socketPath }) {
  return new Promise((resolve) => {
    const socket = net.connect(socketPath ? { path: socketPath } : { host, port })
    let said = Buffer.alloc(0)
    const end = (found) => {
      socket.destroy()
      resolve(found)
    }
    socket.setTimeout(WAIT_MILLISECONDS, () => end(false))
    socket.on('error', () => end(false))
    socket.on('close', () => end(false))
    socket.on('connect', () => socket.write(NEGOTIATION))
    socket.on('data', (chunk) => {
      said = Buffer.concat([said, chunk])
      // Four octets of length, and the same letter back.
      if (said.length >= 5) end(said[4] === NEGOTIATION[4] && said.readUInt32BE(0) === 13)
    })
  })
}
