'use strict'

// What the plugin costs: the same Haraka with it and without it, in turns, in one run. HARAKA_DIR and ADDRAUTH_BIN name both
// programs; ROUNDS and COUNT how much. Prints messages a second, their ratio, and the processor time of each process.
//
//   HARAKA_DIR=… ADDRAUTH_BIN=target/dist/addrauth node stand/bench.js

const { readFileSync } = require('node:fs')

const { Authority } = require('./authority')
const { Daemon } = require('./daemon')
const { Haraka } = require('./haraka')
const { Sink, send } = require('./mail')

const ROUNDS = Number(process.env.ROUNDS ?? 5)
const COUNT = Number(process.env.COUNT ?? 200)
const LANES = 10
const KEY = 'Vb3kQ9w2Zr7tYp0sXn4mLc8dHf1gJa6eUi5oRk2yTq9wEz3xBv7nMs4pDl8hGj0K'
const BODY = `${'a line of some seventy octets, as mail has them, and so on and so on'}\r\n`.repeat(60)
const MESSAGE = `From: alice@example.com\r\nX-Auth-Key: ${KEY}\r\nSubject: hello\r\nTo: bob@recv.test\r\n\r\n${BODY}`

// Milliseconds of processor time, at 100 ticks a second.
function spent(process) {
  const fields = readFileSync(`/proc/${process.pid}/stat`, 'latin1')
    .replace(/^.*\) /, '')
    .split(' ')
  return (Number(fields[11]) + Number(fields[12])) * 10
}

async function round(haraka) {
  const begin = performance.now()
  let left = COUNT
  const lane = async () => {
    while (left-- > 0) {
      const said = await send(haraka.port, MESSAGE, { from: 'alice@example.com', to: ['bob@recv.test'] })
      if (!said.data.startsWith('250')) throw new Error(said.data)
    }
  }
  await Promise.all(Array.from({ length: LANES }, lane))
  return (COUNT * 1000) / (performance.now() - begin)
}

const median = (list) => list.sort((one, other) => one - other)[list.length >> 1]

async function main() {
  const [sink, authority, daemon, bare, asking] = [
    new Sink(),
    new Authority(),
    new Daemon(),
    new Haraka(),
    new Haraka(),
  ]
  try {
    await Promise.all([sink.start(), authority.start(KEY, 'example.com')])
    await daemon.start(
      `final_domains = ["recv.test"]\n[verify.domain."example.com"]\nas = "127.0.0.1:${authority.port}"\n`,
    )
    const ini = `unix_socket=${daemon.hooks}\n`
    await bare.start(ini, sink.port, { without: true })
    await asking.start(ini, sink.port)
    await Promise.all([round(bare), round(asking)])
    const rates = { bare: [], asking: [] }
    const before = [bare, asking, daemon].map((one) => spent(one.process))
    for (let number = 0; number < ROUNDS; number++) {
      rates.bare.push(await round(bare))
      rates.asking.push(await round(asking))
    }
    const after = [bare, asking, daemon].map((one) => spent(one.process))
    const each = after.map((at, which) => ((at - before[which]) / (ROUNDS * COUNT)).toFixed(2))
    const ratios = rates.bare.map((rate, at) => rates.asking[at] / rate)
    console.log(`without the plugin ${median(rates.bare).toFixed(0)} messages a second, ${each[0]} ms of Haraka each`)
    console.log(
      `with it ${median(rates.asking).toFixed(0)} messages a second, ${each[1]} ms of Haraka and ${each[2]} ms of addrauth each`,
    )
    console.log(
      `ratio ${median(ratios).toFixed(2)} (median of ${ROUNDS} rounds of ${COUNT} messages, ${LANES} at a time)`,
    )
  } finally {
    for (const one of [asking, bare, daemon]) if (one.process) await one.stop()
    await Promise.all([sink.stop(), authority.stop()])
  }
}

main()
