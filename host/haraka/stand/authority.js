'use strict'

// An Authentication Server that knows one key for every address of a domain, written from SPECIFICATION.md alone.

const { createHash, createHmac } = require('node:crypto')
const dgram = require('node:dgram')

// The reply to a VERIFY line.
function answer(line, key, domain) {
  const [, seq, address, proof, ...tags] = line.replace(/\r\n$/, '').split(' ')
  const stored = createHash('sha256').update(`addrauth-key-v1\0${key}`).digest()
  const mac = createHmac('sha256', stored).update(['addrauth-verify-v1', seq, address, tags.join(' ')].join('\0'))
  const right = `h1.${mac.digest('base64url')}` === proof && address.endsWith(`@${domain}`)
  return `VERIFY_REPLY ${seq} ${address} ${right ? 'VALIDKEY t=3600' : 'INVALIDKEY'}\r\n`
}

exports.Authority = class {
  asked = []

  async start(key, domain) {
    this.socket = dgram.createSocket('udp4')
    this.socket.on('message', (line, peer) => {
      const text = line.toString('latin1')
      this.asked.push(text)
      this.socket.send(answer(text, key, domain), peer.port, peer.address)
    })
    await new Promise((resolve) => this.socket.bind(0, '127.0.0.1', resolve))
    this.port = this.socket.address().port
    return this
  }

  stop() {
    return new Promise((resolve) => this.socket.close(resolve))
  }
}
