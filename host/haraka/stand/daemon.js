'use strict'

// The built daemon, `addrauth filter`, as a process with its hooks listener. ADDRAUTH_BIN names the program.

const { execFile, spawn } = require('node:child_process')
const { mkdtempSync, rmSync, writeFileSync } = require('node:fs')
const net = require('node:net')
const { tmpdir } = require('node:os')
const path = require('node:path')

exports.program = process.env.ADDRAUTH_BIN

const listens = (socket) =>
  new Promise((resolve) => {
    const probe = net.connect({ path: socket })
    probe.on('connect', () => resolve(true) || probe.destroy())
    probe.on('error', () => resolve(false))
  })

exports.Daemon = class {
  log = ''

  // text: the configuration behind the settings that every such daemon has.
  async start(text) {
    this.at = mkdtempSync(path.join(tmpdir(), 'addrauth-daemon-'))
    this.hooks = path.join(this.at, 'hooks')
    this.milter = path.join(this.at, 'milter')
    this.config = path.join(this.at, 'addrauth.toml')
    writeFileSync(
      this.config,
      `hostname = "mx.home.example"\nobserve = false\nstate_dir = "${this.at}/state"\n${text}
[milter]\nlisten = ["unix:${this.milter}"]\n[hooks]\nlisten = ["unix:${this.hooks}"]\n`,
    )
    await this.run()
    return this
  }

  async run() {
    this.process = spawn(exports.program, ['filter', '--config', this.config], { stdio: ['ignore', 'pipe', 'pipe'] })
    const read = (chunk) => (this.log += chunk.toString('utf8'))
    this.process.stdout.on('data', read)
    this.process.stderr.on('data', read)
    this.ended = new Promise((resolve) => this.process.on('exit', resolve))
    while (!(await listens(this.hooks))) {
      if (this.process.exitCode !== null) throw new Error(`addrauth ended:\n${this.log}`)
      await new Promise((resolve) => setTimeout(resolve, 50))
    }
  }

  // Ends it; its folder stays.
  async end() {
    if (this.process?.exitCode === null) this.process.kill('SIGTERM')
    await this.ended
  }

  async stop() {
    await this.end()
    rmSync(this.at, { recursive: true, force: true })
  }

  // What a verb prints.
  call(...verb) {
    return new Promise((resolve, reject) => {
      const args = [...verb, '--config', this.config]
      execFile(exports.program, args, { maxBuffer: 64 * 1024 * 1024 }, (error, out, words) => {
        // No rows is exit code 1.
        if (error && error.code !== 1) return reject(new Error(words))
        resolve(out)
      })
    })
  }

  // The rows of a verb that lists some.
  async list(...verb) {
    const out = await this.call(...verb, '--json')
    return out.split('\n').flatMap((line) => (line ? [JSON.parse(line)] : []))
  }
}
