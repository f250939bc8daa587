// Refusals arrive as the SDK's own classes; what the server lacks says so and leaves nothing behind.
import { every, params, raises, same, scenario, sdk, within } from './kit.mjs'

const INVALID = 'DaytonaValidationError'

await scenario(async (daytona) => {
  await absent(daytona)
  await keys()
  await creation(daytona)
  await states(daytona)
  await unsupported(daytona)
  same((await every(daytona.list())).map((left) => left.name), [])
})

async function absent(daytona) {
  const unknown = '00000000-0000-4000-8000-000000000000'
  const error = await raises('DaytonaNotFoundError', () => daytona.get(unknown), unknown)
  same([error.statusCode, error.code], [404, 'NOT_FOUND'])
  await raises('DaytonaNotFoundError', () => daytona.get('no-such-name'), 'no-such-name')
  const gone = await daytona.create(params())
  await gone.delete()
  await within(3, () => raises('DaytonaNotFoundError', () => gone.process.executeCommand('true'), gone.id))
  await within(3, () => raises('DaytonaNotFoundError', () => gone.fs.listFiles('/'), gone.id))
}

async function keys() {
  const stranger = new sdk.Daytona({ apiKey: 'mf_key_of_nobody' })
  const error = await raises('DaytonaAuthenticationError', () => stranger.create(params()))
  same(error.statusCode, 401)
  await raises('DaytonaAuthenticationError', () => stranger.get('any'))
  await raises('DaytonaAuthenticationError', () => every(stranger.list()))
  await stranger[Symbol.asyncDispose]()
}

async function creation(daytona) {
  const first = await daytona.create(params())
  const error = await raises('DaytonaConflictError', () => daytona.create(params({ name: first.name })), first.name)
  same(error.statusCode, 409)
  for (const [settings, kind, says] of [
    [{ snapshot: 'no-such-snapshot' }, 'DaytonaNotFoundError', 'no-such-snapshot'],
    [{ name: 'n'.repeat(300) }, INVALID, 'name'],
    [{ envVars: { 'A=B': 'x' } }, INVALID, 'env'],
  ]) {
    await raises(kind, () => daytona.create(params(settings)), says)
  }
  await first.delete()
}

async function states(daytona) {
  const sandbox = await daytona.create(params())
  await raises('DaytonaConflictError', () => sandbox.archive(), 'started')
  await raises(INVALID, () => sandbox.resize({ disk: 1 }), 'disk')
  await raises('DaytonaRateLimitError', () => sandbox.resize({ cpu: 100_000 }), 'cpu')
  await sandbox.stop()
  const error = await raises('DaytonaConflictError', () => sandbox.process.executeCommand('true'), 'stopped')
  same(error.statusCode, 409)
  await sandbox.delete()
}

async function unsupported(daytona) {
  const sandbox = await daytona.create(params())
  const image = { image: 'alpine:3', resources: { cpu: 1 } }
  for (const [feature, call] of Object.entries({
    fork: () => sandbox.fork(),
    snapshot: () => sandbox.createSnapshot('copy'),
    buildInfo: () => daytona.create(params(image)),
    linkedSandbox: () => daytona.create(params({ linkedSandbox: sandbox.id })),
  })) {
    const error = await within(3, () => raises('DaytonaError', call, feature))
    same([feature, error.statusCode], [feature, 501])
  }
  await sandbox.delete()
}
