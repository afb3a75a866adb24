'use strict'

// An SMTP client, and a server that keeps what it gets, octet for octet.

const net = require('node:net')

// Reads replies: each is complete at a line whose fourth character is a blank.
class Replies {
  #text = ''
  #waiting = []

  constructor(socket) {
    socket.on('data', (chunk) => {
      this.#text += chunk.toString('latin1')
      this.#give()
    })
    socket.on('close', () => {
      for (const { resolve } of this.#waiting.splice(0)) resolve('closed')
    })
    socket.on('error', () => {})
  }

  #give() {
    for (;;) {
      const match = /^(?:\d{3}-[^\n]*\n)*\d{3} [^\n]*\n/.exec(this.#text)
      if (!match || !this.#waiting.length) return
      this.#text = this.#text.slice(match[0].length)
      this.#waiting.shift().resolve(match[0].trimEnd())
    }
  }

  next() {
    return new Promise((resolve) => {
      this.#waiting.push({ resolve })
      this.#give()
    })
  }
}

const stuffed = (octets) => octets.replace(/(^|\n)\./g, '$1..')

// Sends one message; octets: a text of one character an octet, with CRLF. Gives the replies: { rcpt: […], data }.
exports.send = async (port, octets, { from = 'alice@send.test', to, login, verb = 'EHLO', rcpt_parameters = '' }) => {
  const socket = net.connect(port, '127.0.0.1')
  const replies = new Replies(socket)
  const say = (line) => {
    socket.write(Buffer.from(`${line}\r\n`, 'latin1'))
    return replies.next()
  }
  try {
    await replies.next()
    await say(`${verb} client.test`)
    if (login) {
      const said = await say(`AUTH PLAIN ${Buffer.from(`\0${login}\0secret`).toString('base64')}`)
      if (!said.startsWith('235')) return { data: said, rcpt: [] }
    }
    await say(`MAIL FROM:<${from}>`)
    const rcpt = []
    for (const one of to) rcpt.push(await say(`RCPT TO:<${one}>${rcpt_parameters}`))
    const begun = await say('DATA')
    if (!begun.startsWith('354')) return { rcpt, data: begun }
    socket.write(Buffer.from(stuffed(octets), 'latin1'))
    return { rcpt, data: await say('.') }
  } finally {
    socket.destroy()
  }
}

exports.Sink = class {
  got = []

  async start() {
    this.server = net.createServer((socket) => this.serve(socket))
    this.sockets = new Set()
    await new Promise((resolve) => this.server.listen(0, '127.0.0.1', resolve))
    this.port = this.server.address().port
    return this
  }

  async stop() {
    for (const socket of this.sockets) socket.destroy()
    await new Promise((resolve) => this.server.close(resolve))
  }

  serve(socket) {
    this.sockets.add(socket)
    socket.on('close', () => this.sockets.delete(socket))
    socket.on('error', () => {})
    let text = ''
    let mail = null
    let data = false
    const reply = (line) => socket.write(`${line}\r\n`)
    reply('220 sink.test')
    socket.on('data', (chunk) => {
      text += chunk.toString('latin1')
      for (;;) {
        const end = data ? text.indexOf('\r\n.\r\n') : text.indexOf('\r\n')
        if (end === -1) return
        if (data) {
          const octets = text.slice(0, end + 2).replace(/(^|\n)\.\./g, '$1.')
          text = text.slice(end + 5)
          data = false
          this.got.push({ ...mail, octets })
          reply('250 kept')
          continue
        }
        const line = text.slice(0, end)
        text = text.slice(end + 2)
        const verb = line.slice(0, 4).toUpperCase()
        if (verb === 'EHLO') socket.write('250-sink.test\r\n250-8BITMIME\r\n250-SMTPUTF8\r\n250 SIZE\r\n')
        else if (verb === 'MAIL') mail = { from: /<([^>]*)>/.exec(line)[1], to: [] }
        else if (verb === 'RCPT') mail.to.push(/<([^>]*)>/.exec(line)[1])
        else if (verb === 'DATA') data = true
        if (verb === 'DATA') reply('354 go on')
        else if (verb !== 'EHLO') reply(verb === 'QUIT' ? '221 bye' : '250 ok')
      }
    })
  }
}
