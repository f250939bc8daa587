// Changes of state reach the client by events at once.
import { ok, params, same, scenario } from './kit.mjs'

await scenario(async (daytona) => {
  const sandbox = await daytona.create(params())
  const late = []
  for (let round = 0; round < 5; round++) {
    await sandbox.stop()
    let changed
    // Off the beat of the client's polling, which is once a second.
    const other = new Promise((resolve) => setTimeout(resolve, 300)).then(async () => {
      const headers = { Authorization: `Bearer ${process.env.DAYTONA_API_KEY}` }
      const url = `${process.env.DAYTONA_API_URL}/sandbox/${sandbox.id}/start`
      await (await fetch(url, { method: 'POST', headers })).json()
      changed = performance.now()
    })
    await sandbox.waitUntilStarted(20)
    const seen = performance.now()
    await other
    late.push(Math.max(0, seen - changed))
    same(sandbox.state, 'started')
  }
  late.sort((a, b) => a - b)
  ok(late[2] <= 500, `start was seen after ${late} ms`)
  await sandbox.delete()
})
