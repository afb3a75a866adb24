'use strict'

// A real Haraka with the plugin, in a folder of its own. HARAKA_DIR names a folder where `npm install haraka` was run.

const { spawn } = require('node:child_process')
const { mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } = require('node:fs')
const { tmpdir } = require('node:os')
const path = require('node:path')

const PLUGIN = path.resolve(__dirname, '..')

exports.folder = process.env.HARAKA_DIR && path.resolve(process.env.HARAKA_DIR, 'node_modules', 'haraka')

exports.Haraka = class {
  log = ''

  // ini: config/addrauth.ini. forward: the port of the server to which everything goes. plugins: others, before the usual
  // ones. hosts: the domains whose mail ends here. without: the plugin is left out.
  // spool: messages go to disk.
  async start(ini, forward, { plugins = [], hosts = ['recv.test'], me = 'mx.recv.test', without, spool } = {}) {
    this.at = mkdtempSync(path.join(tmpdir(), 'addrauth-haraka-'))
    const config = path.join(this.at, 'config')
    mkdirSync(config)
    mkdirSync(path.join(this.at, 'plugins'))
    mkdirSync(path.join(this.at, 'node_modules'))
    mkdirSync(path.join(this.at, 'queue'))
    symlinkSync(PLUGIN, path.join(this.at, 'node_modules', 'haraka-plugin-addrauth'))
    const before = plugins.map(({ name, code }) => {
      writeFileSync(path.join(this.at, 'plugins', `${name}.js`), code)
      return name
    })
    const own = without ? [] : ['addrauth']
    const list = [...before, 'rcpt_to.in_host_list', 'auth/flat_file', ...own, 'queue/smtp_forward']
    const files = {
      plugins: list.join('\n'),
      'smtp.ini': 'listen=127.0.0.1:0\nnodes=0\ngraceful_shutdown=true\nforce_shutdown_timeout=5\n',
      'http.ini': '',
      host_list: hosts.join('\n'),
      me,
      'smtp_forward.ini': `host=127.0.0.1\nport=${forward}\nenable_outbound=true\n`,
      'auth_flat_file.ini': '[core]\nmethods=PLAIN\n[users]\nalice@send.test=secret\nbob@accept.here.example=secret\n',
      'log.ini': '[main]\nlevel=info\n',
      'addrauth.ini': ini,
      'outbound.ini': `queue_dir=${path.join(this.at, 'queue')}\n`,
    }
    for (const [name, content] of Object.entries(files)) writeFileSync(path.join(config, name), content)
    // One's own file replaces the whole default.
    const connection = readFileSync(path.join(exports.folder, 'config', 'connection.ini'), 'utf8')
    const kept = spool ? connection.replace('[main]', `[main]\nspool_dir=${this.at}\nspool_after=1000`) : connection
    writeFileSync(path.join(config, 'connection.ini'), kept)
    this.process = spawn(process.execPath, [path.join(exports.folder, 'bin', 'haraka'), '-c', this.at], {
      stdio: ['ignore', 'pipe', 'pipe'],
    })
    this.ended = new Promise((resolve) => this.process.on('exit', resolve))
    await new Promise((resolve, reject) => {
      const read = (chunk) => {
        this.log += chunk.toString('latin1')
        const match = /Listening on (?:127\.0\.0\.1|\[[^\]]*\]):(\d+)/.exec(this.log)
        if (!match) return
        this.port = Number(match[1])
        resolve()
      }
      this.process.stdout.on('data', read)
      this.process.stderr.on('data', read)
      this.ended.then((code) => reject(new Error(`Haraka ended with ${code}:\n${this.log}`)))
    })
    return this
  }

  // Haraka ends in an orderly way on SIGINT.
  async end() {
    if (this.process.exitCode === null) this.process.kill('SIGINT')
    await this.ended
  }

  async stop() {
    await this.end()
    rmSync(this.at, { recursive: true, force: true })
  }
}
