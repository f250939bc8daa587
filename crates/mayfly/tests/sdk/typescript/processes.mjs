// Processes that stay: sessions, terminals, interpreters.
import { ok, params, raises, same, scenario } from './kit.mjs'

await scenario(async (daytona) => {
  const sandbox = await daytona.create(params({ envVars: { FROM: 'sandbox' } }))
  await sessions(sandbox)
  await terminals(sandbox)
  await interpreter(sandbox)
  await sandbox.delete()
})

async function sessions({ process }) {
  const run = (command, more = {}) => process.executeSessionCommand('one', { command, ...more })
  await process.createSession('one')
  await raises('DaytonaConflictError', () => process.createSession('one'), 'one')
  await run('export A=1; cd /tmp')
  const done = await run('echo $A $FROM; pwd; echo err >&2; (exit 5)')
  same([done.exitCode, done.stdout, done.stderr], [5, '1 sandbox\n/tmp\n', 'err\n'])
  const taken = await run('read x; echo got:$x', { runAsync: true })
  let [out, err] = ['', '']
  const followed = process.getSessionCommandLogs(
    'one',
    taken.cmdId,
    (text) => (out += text),
    (text) => (err += text),
  )
  await process.sendSessionCommandInput('one', taken.cmdId, 'hello\n')
  await followed
  same([out, err], ['got:hello\n', ''])
  const logs = await process.getSessionCommandLogs('one', taken.cmdId)
  same([logs.output, logs.stdout, logs.stderr], ['got:hello\n', 'got:hello\n', ''])
  same((await process.getSessionCommand('one', taken.cmdId)).exitCode, 0)
  same((await process.getSession('one')).commands.length, 3)
  same((await run('exit 3')).exitCode, 3)
  await raises('DaytonaNotFoundError', () => process.getSession('none'), 'none')
  await process.deleteSession('one')
  same(await process.listSessions(), [])
}

async function terminals({ process }) {
  let seen = ''
  const onData = (data) => (seen += new TextDecoder().decode(data))
  const until = async (word) => {
    for (let i = 0; i < 500 && !seen.includes(word); i++) await new Promise((next) => setTimeout(next, 20))
    ok(seen.includes(word), `${word} is missing in ${seen}`)
  }
  const options = { id: 'p', cwd: '/tmp', envs: { WORD: 'of mouth' }, cols: 91, rows: 21, onData }
  const first = await process.createPty(options)
  await first.waitForConnection()
  await first.sendInput('echo [$WORD]; stty size\n')
  await until('[of mouth]')
  await until('21 91')
  await first.disconnect()
  same((await process.getPtySessionInfo('p')).active, true)
  seen = ''
  const again = await process.connectPty('p', { onData })
  await again.waitForConnection()
  await until('21 91')
  const resized = await again.resize(100, 30)
  same([resized.cols, resized.rows], [100, 30])
  await again.sendInput('stty size; exit 3\n')
  same((await again.wait()).exitCode, 3)
  await until('30 100')
  const killed = await process.createPty({ id: 'q', onData })
  await killed.waitForConnection()
  const end = killed.wait()
  await killed.kill()
  same((await end).exitCode, 137)
}

async function interpreter({ codeInterpreter }) {
  const run = (...all) => codeInterpreter.runCode(...all)
  await run('x = 41')
  let out = ''
  const done = await run('print(x + 1)', { onStdout: ({ output }) => (out += output) })
  same([done.stdout, done.stderr, out], ['42\n', '', '42\n'])
  const { error } = await run("raise ValueError('boom')")
  same([error.name, error.value], ['ValueError', 'boom'])
  const context = await codeInterpreter.createContext('/tmp')
  same((await run('import os; print(os.getcwd())', { context })).stdout, '/tmp\n')
  same((await codeInterpreter.listContexts()).length, 1)
  await raises('DaytonaTimeoutError', () => run('while True: pass', { timeout: 1 }))
  same((await run('print(x)')).stdout, '41\n')
  await codeInterpreter.deleteContext(context)
}
