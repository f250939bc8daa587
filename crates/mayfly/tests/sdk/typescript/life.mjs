// Sandboxes from creation to deletion.
import { every, ok, params, same, scenario, within } from './kit.mjs'

await scenario(async (daytona) => {
  await defaults(daytona)
  await everythingAskedFor(daytona)
  await stopAndStart(daytona)
  await settings(daytona)
  await lists(daytona)
  await deletion(daytona)
})

async function defaults(daytona) {
  const sandbox = await within(3, () => daytona.create())
  same(sandbox.state, 'started')
  same([sandbox.cpu, sandbox.memory, sandbox.disk, sandbox.gpu], [1, 1, 3, 0])
  same([sandbox.target, sandbox.snapshot], ['us', 'host'])
  same(sandbox.labels, { 'code-toolbox-language': 'python' })
  same([sandbox.autoStopInterval, sandbox.autoDeleteInterval], [15, -1])
  same([sandbox.public, sandbox.networkBlockAll], [false, false])
  same([await sandbox.getUserHomeDir(), await sandbox.getWorkDir()], ['/root', '/root'])
  await within(3, () => sandbox.delete())
}

async function everythingAskedFor(daytona) {
  const asked = params({
    language: 'typescript',
    labels: { team: 'blue', häuser: '3 & 4' },
    envVars: { COLOUR: 'a b\n"c" $HOME ü' },
    public: true,
    autoStopInterval: 0,
    autoArchiveInterval: 60,
    autoDeleteInterval: 120,
    networkBlockAll: true,
  })
  const sandbox = await daytona.create(asked)
  same(sandbox.name, asked.name)
  same(sandbox.labels, { ...asked.labels, 'code-toolbox-language': 'typescript' })
  same(sandbox.env, asked.envVars)
  same(sandbox.public, true)
  same([sandbox.autoStopInterval, sandbox.autoArchiveInterval, sandbox.autoDeleteInterval], [0, 60, 120])
  same((await sandbox.process.executeCommand('printf %s "$COLOUR"')).result, asked.envVars.COLOUR)
  const found = await daytona.get(asked.name)
  same([found.id, found.labels, found.env], [sandbox.id, sandbox.labels, sandbox.env])
  await sandbox.delete()

  const ephemeral = await daytona.create(params({ ephemeral: true }))
  same(ephemeral.autoDeleteInterval, 0)
  await within(5, () => ephemeral.stop())
  same(ephemeral.state, 'destroyed')
}

async function stopAndStart(daytona) {
  const sandbox = await daytona.create(params())
  await sandbox.fs.uploadFile(Buffer.from('kept'), 'kept.txt')
  await within(4, () => sandbox.stop())
  same(sandbox.state, 'stopped')
  await within(4, () => sandbox.resize({ cpu: 2, memory: 2, disk: 5 }))
  same([sandbox.cpu, sandbox.memory, sandbox.disk, sandbox.state], [2, 2, 5, 'stopped'])
  await within(4, () => sandbox.start())
  same(sandbox.state, 'started')
  same((await sandbox.process.executeCommand('cat kept.txt')).result, 'kept')
  await sandbox.resize({ cpu: 1 })
  same([sandbox.cpu, sandbox.memory, sandbox.state], [1, 2, 'started'])
  await within(4, () => sandbox.stop(60, true))
  await sandbox.archive()
  ok(['archiving', 'archived'].includes(sandbox.state), sandbox.state)
  await within(6, () => sandbox.start())
  same((await sandbox.process.executeCommand('cat kept.txt')).result, 'kept')
  await daytona.stop(sandbox)
  await daytona.start(sandbox)
  same(sandbox.state, 'started')
  await daytona.delete(sandbox)
}

async function settings(daytona) {
  const sandbox = await daytona.create(params())
  same(await sandbox.setLabels({ a: '1' }), { a: '1' })
  await sandbox.setAutostopInterval(7)
  await sandbox.setAutoArchiveInterval(8)
  await sandbox.setAutoDeleteInterval(9)
  await sandbox.setTtl(10)
  await sandbox.refreshActivity()
  await sandbox.refreshData()
  same(sandbox.labels, { a: '1' })
  same([sandbox.autoStopInterval, sandbox.autoArchiveInterval, sandbox.autoDeleteInterval], [7, 8, 9])
  ok(sandbox.autoDestroyAt, 'a ttl sets the time of destruction')
  const metrics = await sandbox.getMetricsLatest()
  same([metrics.memTotal, metrics.diskTotal > 0], [2 ** 30, true])
  await sandbox.delete()
}

async function lists(daytona) {
  const mark = params().name
  const made = []
  for (let n = 0; n < 5; n++) made.push(await daytona.create(params({ name: `${mark}-${n}`, labels: { mark } })))
  await made[0].stop()
  const listed = await every(daytona.list({ labels: { mark }, limit: 2 }))
  same(listed.map((item) => item.id), made.map((item) => item.id).reverse())
  const byName = await every(daytona.list({ name: `${mark}-3`.toUpperCase() }))
  same(byName.map((item) => item.name), [`${mark}-3`])
  const stopped = await every(daytona.list({ labels: { mark }, states: ['stopped'] }))
  same(stopped.map((item) => item.id), [made[0].id])
  same((await listed[0].process.executeCommand('echo listed')).result, 'listed\n')
  for (const sandbox of made) await sandbox.delete()
  same(await every(daytona.list({ labels: { mark } })), [])
}

async function deletion(daytona) {
  const sandbox = await daytona.create(params())
  await within(4, () => sandbox.delete())
  await sandbox.delete()
  const again = await daytona.create(params({ name: sandbox.name }))
  ok(again.id !== sandbox.id, 'a new sandbox under the free name')
  await within(4, () => again.delete(60, true))
  same(again.state, 'destroyed')
}
