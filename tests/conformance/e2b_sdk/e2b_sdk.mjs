// SPDX-License-Identifier: Apache-2.0
//
// What a program that uses the official E2B SDK relies on, one TAP line a behaviour.
//
//   node e2b_sdk.mjs PATH-OF-farstep-mock-e2b
import { spawn } from 'node:child_process'
import { createHash, randomBytes } from 'node:crypto'
import http from 'node:http'
import readline from 'node:readline'
import {
  AuthenticationError, CommandExitError, FileNotFoundError, InvalidArgumentError, NotFoundError, RateLimitError, Sandbox, SandboxError,
  SandboxNotFoundError, ServiceBusyError, Template, TimeoutError,
} from 'e2b'

const program = process.argv[2]
let failed = 0

function ok(good, sentence, detail) {
  console.log(`${good ? 'ok' : 'not ok'} - ${sentence}`)
  if (good) return
  failed++
  console.log('#   ' + String(detail instanceof Error ? detail.stack : JSON.stringify(detail, null, 1)).replaceAll('\n', '\n#   '))
}

async function thrown(f) {
  try {
    return { value: await f() }
  } catch (e) {
    return e
  }
}

async function until(what, f, ms = 15000) {
  for (const end = Date.now() + ms; Date.now() < end;) {
    const got = await f()
    if (got) return got
    await new Promise((r) => setTimeout(r, 10))
  }
  throw new Error('waited in vain for ' + what)
}

const sleep = (ms) => new Promise((r) => setTimeout(r, ms))
const sha = (b) => createHash('sha256').update(b).digest('hex')

class Mock {
  static async start(...args) {
    const m = new Mock()
    m.child = spawn(program, ['--print-env', '--with-parent', ...args], { stdio: ['pipe', 'pipe', 'inherit'] })
    m.env = {}
    for await (const line of readline.createInterface(m.child.stdout)) {
      if (line.startsWith('ready ')) m.url = line.slice(6)
      else m.env[line.split('=')[0]] = line.slice(line.indexOf('=') + 1)
      if (m.env.E2B_DOMAIN) break
    }
    // Exactly as a shell would set them for a program.
    Object.assign(process.env, m.env)
    return m
  }

  stop() {
    return new Promise((r) => {
      this.child.on('exit', r)
      this.child.stdin.end()
    })
  }
}

async function withMock(args, f) {
  const m = await Mock.start(...args)
  try {
    await f(m)
  } catch (e) {
    ok(false, `no exception with ${args.join(' ') || 'no options'}`, e)
  }
  await m.stop()
}

// --- one sandbox -------------------------------------------------------------------------------

async function creating() {
  const s = await Sandbox.create('base', { metadata: { app: 'x y', n: '1' }, envs: { COLOUR: 'blue' }, timeoutMs: 120_000 })
  ok(/^i[a-z0-9]{20}$/.test(s.sandboxId), 'create', s.sandboxId)
  ok(await s.isRunning(), 'isRunning')
  const i = await s.getInfo()
  ok(i.sandboxId === s.sandboxId && i.name === 'base' && i.state === 'running' && i.metadata.app === 'x y' && i.cpuCount === 2 && i.envdVersion === '0.6.13', 'getInfo', i)
  ok(Math.abs(i.endAt - i.startedAt - 120_000) < 1000 && i.lifecycle.onTimeout === 'kill', 'its life is as long as asked for', i)
  ok(s.getHost(3000) === `3000-${s.sandboxId}.${process.env.E2B_DOMAIN}`, 'getHost', s.getHost(3000))
  const t = await Sandbox.create()
  const j = await t.getInfo()
  ok(Math.abs(j.endAt - j.startedAt - 300_000) < 1000, 'without a timeout it lives five minutes', j)
  await t.kill()
  const e = await thrown(() => Sandbox.create('no-such-template'))
  ok(e instanceof SandboxError && /404.*template 'no-such-template' not found/.test(e.message), 'an unknown template', e)
  const z = await thrown(() => Sandbox.create({ timeoutMs: 90_000_000 }))
  ok(z instanceof SandboxError && z.message.includes('Timeout cannot be greater than 24 hours'), 'a timeout over the bound', z)
  return s
}

async function running(s) {
  const r = await s.commands.run('echo out; echo err >&2; echo $COLOUR; pwd; id -un')
  ok(r.exitCode === 0 && r.stdout === 'out\nblue\n/home/user\nuser\n' && r.stderr === 'err\n', 'commands.run: both outputs, environment, home, user', r)
  const e = await thrown(() => s.commands.run('echo before; exit 42'))
  ok(e instanceof CommandExitError && e.exitCode === 42 && e.stdout === 'before\n', 'a command that fails throws its code and output', e)
  const q = await s.commands.run('echo $A $PWD', { envs: { A: 'b' }, cwd: '/tmp' })
  ok(q.stdout === 'b /tmp\n', 'envs and cwd of a command', q)
  const out = []
  await s.commands.run('for i in 1 2 3; do echo $i; sleep 0.1; done', { onStdout: (d) => out.push(d), onStderr: () => out.push('?') })
  ok(out.length >= 3 && out.join('') === '1\n2\n3\n', 'onStdout is called while it runs', out)
  const none = await thrown(() => s.commands.run('no-such-command'))
  ok(none instanceof CommandExitError && none.exitCode === 127 && none.stderr.includes('not found'), 'a missing program is 127', none)
  const dir = await thrown(() => s.commands.run('true', { cwd: '/no/such/dir' }))
  ok(dir instanceof InvalidArgumentError, 'a missing directory is an error of its own', dir)
  const who = await thrown(() => s.commands.run('true', { user: 'nobody-here' }))
  ok(who instanceof AuthenticationError, 'so is an unknown user', who)
  const big = await s.commands.run('head -c 20000000 /dev/zero | tr "\\0" x')
  ok(big.stdout.length === 20_000_000 && !/[^x]/.test(big.stdout), '20 MB of output arrive whole', big.stdout.length)
  const utf = await s.commands.run('printf "gr\\303\\274n \\360\\237\\214\\261"')
  ok(utf.stdout === 'grün 🌱', 'characters beyond ASCII', utf)
  const many = await Promise.all(Array.from({ length: 30 }, (_, i) => s.commands.run(`echo ${i}; exit 0`)))
  ok(many.every((x, i) => x.stdout === `${i}\n`), '30 commands at once')
}

async function background(s) {
  const h = await s.commands.run('echo up; sleep 60', { background: true })
  ok(h.pid > 0 && await until('output', () => h.stdout === 'up\n'), 'background: a handle at once', h.pid)
  const l = await s.commands.list()
  ok(l.some((p) => p.pid === h.pid && p.cmd === '/bin/bash' && p.args.at(-1) === 'echo up; sleep 60'), 'commands.list has it', l)
  ok(await h.kill() === true, 'kill')
  const e = await thrown(() => h.wait())
  ok(e instanceof CommandExitError && e.exitCode !== 0, 'a killed command fails', e)
  ok(await s.commands.kill(h.pid) === false, 'a second kill finds nothing')
  const c = await s.commands.run('for i in $(seq 100); do echo $i; sleep 0.05; done', { background: true })
  await until('output', () => c.stdout.includes('3\n'))
  await c.disconnect()
  await sleep(200)
  const again = await s.commands.connect(c.pid)
  const r = await again.wait()
  const got = r.stdout.trim().split('\n').map(Number)
  ok(got[0] > 3 && got.at(-1) === 100 && got.every((n, i) => i === 0 || n === got[i - 1] + 1), 'a disconnected command goes on; connect gets what comes from then on', got)
  const gone = await thrown(() => s.commands.connect(999_999))
  ok(gone instanceof NotFoundError, 'connect to a pid that is not there', gone)
}

async function stdin(s) {
  const h = await s.commands.run('cat; echo end', { background: true, stdin: true })
  await h.sendStdin('one\n')
  await s.commands.sendStdin(h.pid, 'two\n')
  await until('echo', () => h.stdout === 'one\ntwo\n')
  await h.closeStdin()
  const r = await h.wait()
  ok(r.stdout === 'one\ntwo\nend\n', 'stdin: sent in pieces, then closed', r)
  const n = await s.commands.run('cat; echo nothing')
  ok(n.stdout === 'nothing\n', 'without stdin there is nothing to read', n)
}

async function timeouts(s) {
  const began = Date.now()
  const e = await thrown(() => s.commands.run('sleep 30; echo late >late', { timeoutMs: 700 }))
  ok(e instanceof TimeoutError && Date.now() - began < 20_000, 'a command over its time', e)
  await sleep(300)
  const l = await s.commands.list()
  ok(!l.some((p) => p.args.at(-1)?.includes('late')), 'is killed', l)
  const r = await s.commands.run('sleep 1; echo done', { timeoutMs: 0 })
  ok(r.stdout === 'done\n', '0 is no timeout', r)
}

async function files(s) {
  const i = await s.files.write('notes/a.txt', 'hello')
  ok(i.path === '/home/user/notes/a.txt' && i.name === 'a.txt' && i.type === 'file', 'files.write makes what is missing above', i)
  ok(await s.files.read('notes/a.txt') === 'hello' && await s.files.read('/home/user/notes/a.txt') === 'hello', 'files.read')
  const data = randomBytes(9_000_000)
  await s.files.write('/tmp/blob', data.buffer.slice(data.byteOffset, data.byteOffset + data.length))
  const back = await s.files.read('/tmp/blob', { format: 'bytes' })
  ok(sha(back) === sha(data), '9 MB of binary there and back', back.length)
  ok((await s.commands.run('sha256sum </tmp/blob')).stdout.startsWith(sha(data)), 'and a command sees the same')
  const stream = await s.files.read('/tmp/blob', { format: 'stream' })
  const h = createHash('sha256')
  for await (const c of stream) h.update(c)
  ok(h.digest('hex') === sha(data), 'as a stream')
  await s.files.write('/tmp/octets', new Blob([data]), { useOctetStream: true })
  ok(sha(await s.files.read('/tmp/octets', { format: 'bytes' })) === sha(data), 'as one octet stream')
  await s.files.write('/tmp/zipped', 'z'.repeat(100_000), { gzip: true })
  ok(await s.files.read('/tmp/zipped', { gzip: true }) === 'z'.repeat(100_000), 'compressed')
  const several = await s.files.write([{ path: 'm/1', data: 'one' }, { path: 'm/2', data: 'two' }])
  ok(several.length === 2 && await s.files.read('m/2') === 'two', 'several in one request', several)
  await s.files.write('empty', '')
  ok(await s.files.read('empty') === '', 'an empty file')
  const l = await s.files.list('m')
  ok(l.map((x) => x.name).sort().join() === '1,2' && l[0].type === 'file' && l[0].size === 3 && l[0].owner === 'user', 'files.list', l)
  ok((await s.files.list('/home/user', { depth: 2 })).some((x) => x.path === '/home/user/m/1'), 'with depth')
  ok(await s.files.exists('m/1') && !(await s.files.exists('m/9')), 'files.exists')
  ok(await s.files.makeDir('d/e/f') === true && await s.files.makeDir('d/e/f') === false, 'files.makeDir: false when it is there')
  const moved = await s.files.rename('m/1', 'd/moved')
  ok(moved.path === '/home/user/d/moved' && !(await s.files.exists('m/1')), 'files.rename', moved)
  const info = await s.files.getInfo('d/moved')
  ok(info.size === 3 && info.permissions.startsWith('-rw') && info.modifiedTime instanceof Date, 'files.getInfo', info)
  await s.files.remove('d')
  ok(!(await s.files.exists('d/moved')), 'files.remove takes all below')
  const e = await thrown(() => s.files.read('nothing'))
  ok(e instanceof FileNotFoundError, 'a missing file', e)
  const dir = await thrown(() => s.files.read('/tmp'))
  ok(dir instanceof InvalidArgumentError, 'a directory cannot be read', dir)
  await s.files.write('odd näme #1?.txt', 'x')
  ok(await s.files.read('odd näme #1?.txt') === 'x', 'names with spaces, # and ?')
}

async function signed(s) {
  const url = new URL(await s.downloadUrl('notes/a.txt', { useSignatureExpiration: 60 }))
  const headers = { 'E2b-Sandbox-Id': s.sandboxId, 'E2b-Sandbox-Port': '49983' }
  const r = await fetch(url, { headers })
  ok(r.status === 200 && await r.text() === 'hello', 'a signed download needs no token', r.status)
  ok((await fetch(url.toString().replace('a.txt', 'b.txt'), { headers })).status === 401, 'and is good for that file only')
  const form = new FormData()
  form.append('file', new Blob(['signed']), 'x')
  const up = await fetch(await s.uploadUrl('/tmp/signed'), { method: 'POST', body: form, headers })
  ok(up.status === 200 && await s.files.read('/tmp/signed') === 'signed', 'a signed upload', up.status)
}

async function watching(s) {
  const seen = []
  await s.files.makeDir('w')
  const w = await s.files.watchDir('w', (e) => seen.push(`${e.type} ${e.name}`), { recursive: true })
  await s.files.write('w/f', '1')
  await s.commands.run('mkdir w/sub; sleep 0.2; echo x >w/sub/deep; mv w/f w/g; rm w/g')
  await until('events', () => seen.includes('remove g'))
  for (const want of ['create f', 'write f', 'create sub', 'create sub/deep', 'rename f', 'remove g'])
    ok(seen.includes(want), `watchDir: ${want}`, seen)
  await w.stop()
  const n = seen.length
  await s.files.write('w/late', '1')
  await sleep(200)
  ok(seen.length === n, 'a watch that was stopped says nothing more')
  const e = await thrown(() => s.files.watchDir('/no/dir', () => {}))
  ok(e instanceof FileNotFoundError, 'a directory that is not there cannot be watched', e)
}

async function terminal(s) {
  let text = ''
  const p = await s.pty.create({ cols: 90, rows: 33, onData: (d) => { text += Buffer.from(d).toString() }, timeoutMs: 0 })
  const type = (line) => s.pty.sendInput(p.pid, new TextEncoder().encode(line))
  await type('echo "<$(stty size)>"; tty\n')
  ok(await until('its size', () => text.includes('<33 90>') && /\/dev\/pts\/\d/.test(text)), 'a terminal has its size and a name')
  await s.pty.resize(p.pid, { cols: 120, rows: 40 })
  await type('echo "<$(stty size)>"\n')
  ok(await until('its new size', () => text.includes('<40 120>')), 'it can be resized')
  await type('sleep 100\n')
  await sleep(200)
  await type('\x03')
  await type('echo alive\n')
  ok(await until('the prompt', () => /alive\r\n/.test(text)), 'Ctrl-C ends what runs in it, not the shell')
  await type('exit 7\n')
  const e = await thrown(() => p.wait())
  ok(e.exitCode === 7, 'it ends with the code of its shell', e)
}

// --- ports -------------------------------------------------------------------------------------

function get(m, headers, path = '/') {
  return new Promise((resolve, reject) => {
    http.get(m.url + path, { headers }, (r) => {
      let body = ''
      r.on('data', (d) => { body += d })
      r.on('end', () => resolve({ status: r.statusCode, body }))
    }).on('error', reject)
  })
}

async function ports(m, s) {
  await s.files.write('/tmp/www/index.html', '<p>hello')
  const h = await s.commands.run('cd /tmp/www && python3 -m http.server 3000', { background: true, timeoutMs: 0 })
  const host = { Host: s.getHost(3000) }
  const r = await until('the server', async () => { const a = await get(m, host); return a.status !== 502 && a })
  ok(r.status === 200 && r.body === '<p>hello', 'a server in the sandbox answers at getHost()', r)
  await h.kill()
  const c = await get(m, host)
  ok(c.status === 502 && JSON.parse(c.body).message === 'The sandbox is running but port is not open' && JSON.parse(c.body).port === 3000, 'a closed port', c)
}

// --- life --------------------------------------------------------------------------------------

async function living(m, s) {
  const l = await Sandbox.list({ query: { metadata: { app: 'x y' }, state: ['running'] } }).nextItems()
  ok(l.length === 1 && l[0].sandboxId === s.sandboxId, 'list by metadata and state', l)
  const made = await Promise.all([1, 2, 3].map(() => Sandbox.create({ metadata: { page: 'yes' } })))
  const found = []
  const p = Sandbox.list({ query: { metadata: { page: 'yes' } }, limit: 2 })
  let pages = 0
  for (; p.hasNext; pages++) found.push(...await p.nextItems())
  ok(pages === 2 && new Set(found.map((x) => x.sandboxId)).size === 3, 'list in pages', found)
  await Promise.all(made.map((x) => x.kill()))
  await s.setTimeout(60_000)
  const i = await s.getInfo()
  ok(Math.abs(i.endAt - Date.now() - 60_000) < 5000, 'setTimeout', i)
  ok((await s.getMetrics()).every((x) => x.cpuCount === 2 && x.memTotal > 0), 'getMetrics')
  const h = await s.commands.run('i=0; while :; do i=$((i+1)); echo $i; sleep 0.05; done', { background: true, timeoutMs: 0 })
  await until('counting', () => h.stdout.includes('3\n'))
  const waiting = thrown(() => h.wait())
  ok(await s.pause() === true && await s.pause() === false, 'pause; false when it is paused')
  ok((await waiting) instanceof Error, 'what was open is broken', await waiting)
  ok((await Sandbox.getInfo(s.sandboxId)).state === 'paused' && await s.isRunning() === false, 'then it is paused')
  const e = await thrown(() => s.commands.run('true'))
  ok(e instanceof SandboxNotFoundError, 'and nothing can be run', e)
  const t = await Sandbox.connect(s.sandboxId, { timeoutMs: 100_000 })
  const again = await t.commands.connect(h.pid)
  const before = Number(h.stdout.trim().split('\n').at(-1))
  ok(await until('going on', () => Number(again.stdout.trim().split('\n').at(-1)) > before), 'connect resumes it, and its processes go on')
  ok(await t.files.read('notes/a.txt') === 'hello' && (await Sandbox.getInfo(t.sandboxId)).state === 'running', 'with its files')
  await again.kill()
  const same = await Sandbox.connect(t.sandboxId)
  ok((await same.commands.run('echo x')).stdout === 'x\n', 'connect to a running one')
  ok(await s.kill() === true && await s.kill() === false && await Sandbox.kill(s.sandboxId) === false, 'kill; false when it is gone')
  const gone = await thrown(() => t.commands.run('true'))
  ok(gone instanceof SandboxNotFoundError && await t.isRunning() === false, 'then it is gone', gone)
  for (const [name, f] of [['getInfo', () => t.getInfo()], ['setTimeout', () => t.setTimeout(1000)], ['connect', () => Sandbox.connect(t.sandboxId)], ['pause', () => t.pause()]])
    ok((await thrown(f)) instanceof NotFoundError, `${name} of one that is gone`)
  ok((await get(m, { Host: t.getHost(3000) })).body.includes('The sandbox was not found'), 'so is its port')
}

async function expiry() {
  const s = await Sandbox.create({ timeoutMs: 1000 })
  const h = await s.commands.run('sleep 60', { background: true, timeoutMs: 0 })
  const e = await thrown(() => h.wait())
  ok(e instanceof TimeoutError && /end of life/.test(e.message), 'at the end of its life a command is told so', e)
  ok(await s.isRunning() === false, 'and the sandbox is gone')
  const p = await Sandbox.create({ timeoutMs: 1000, lifecycle: { onTimeout: 'pause' } })
  await p.files.write('f', 'kept')
  await until('its pause', async () => (await Sandbox.getInfo(p.sandboxId)).state === 'paused')
  const q = await Sandbox.connect(p.sandboxId)
  ok(await q.files.read('f') === 'kept', 'onTimeout pause: it can be resumed')
  await q.kill()
  const r = await Sandbox.create({ timeoutMs: 60_000, lifecycle: { onTimeout: 'pause', autoResume: true } })
  await r.pause()
  ok((await r.commands.run('echo awake')).stdout === 'awake\n', 'autoResume: traffic wakes it')
  await r.kill()
}

async function building() {
  const name = 'farstep-base-4c-2048m'
  ok(await Template.exists(name) === false, 'Template.exists: false')
  const template = Template().fromBaseImage().runCmd('true')
  const b = await Template.build(template, name, { cpuCount: 4, memoryMB: 2048 })
  ok(b.templateId && await Template.exists(name) === true, 'Template.build', b)
  const s = await Sandbox.create(name)
  const i = await s.getInfo()
  ok(i.cpuCount === 4 && i.memoryMB === 2048 && i.name === name && i.templateId === b.templateId, 'a sandbox from it has its size', i)
  await s.kill()
}

await withMock([], async (m) => {
  const s = await creating()
  await running(s)
  await background(s)
  await stdin(s)
  await timeouts(s)
  await files(s)
  await signed(s)
  await watching(s)
  await terminal(s)
  await ports(m, s)
  await living(m, s)
  await expiry()
  await building()
  process.env.E2B_API_KEY = 'e2b_' + 'f'.repeat(40)
  ok((await thrown(() => Sandbox.create())) instanceof AuthenticationError, 'a bad key')
})

await withMock(['--max-sandboxes', '1'], async () => {
  const s = await Sandbox.create()
  const e = await thrown(() => Sandbox.create())
  ok(e instanceof RateLimitError && /maximum number of concurrent E2B sandboxes \(1\)/.test(e.message), 'the quota', e)
  await s.kill()
  ok((await thrown(async () => (await Sandbox.create()).kill())).value === true, 'room again after a kill')
})

await withMock(['--fault', 'create:429:ratex2', 'create:503x1'], async () => {
  const began = Date.now()
  // The rate limit's Retry-After is honoured twice; the third try meets the 503, which is not retried.
  const e = await thrown(() => Sandbox.create())
  ok(e instanceof ServiceBusyError && Date.now() - began >= 1900, 'Retry-After is honoured; no capacity is not retried', e)
  ok((await thrown(async () => (await Sandbox.create()).kill())).value === true, 'then it works')
})

await withMock(['--fault', 'process:drop@200x1', 'files:cut@1000x1'], async () => {
  const s = await Sandbox.create()
  const e = await thrown(() => s.commands.run('seq 1000; sleep 1'))
  ok(e instanceof Error && !(e instanceof CommandExitError) && !(e instanceof TimeoutError), 'a stream that breaks is an error, not an end', e)
  const f = await thrown(() => s.files.write('/tmp/x', 'y'.repeat(5000)))
  ok(f instanceof Error, 'so is an upload that breaks', f)
  ok((await s.commands.run('echo fine')).stdout === 'fine\n', 'the sandbox lives on')
  await s.kill()
})

await withMock(['--envd-version', '0.2.1'], async () => {
  const s = await Sandbox.create()
  ok((await s.commands.run('echo old; whoami')).stdout === 'old\nuser\n', 'an envd of old')
  await s.files.write('a', 'b')
  ok(await s.files.read('a') === 'b', 'its files')
  await s.kill()
})

process.exit(failed ? 1 : 0)
