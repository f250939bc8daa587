// What the scenarios share: the published SDK and checks that say what differs.
//
// The SDK lies outside this folder, so it is imported by path: its ES module, or with SDK_MODULE=cjs the other.
import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { createRequire } from 'node:module'
import { pathToFileURL } from 'node:url'
import { inspect } from 'node:util'

const require = createRequire(`${process.env.SDK_FOLDER}/package.json`)
const path = require.resolve(process.env.SDK_PACKAGE)
export const sdk =
  process.env.SDK_MODULE === 'cjs' ? require(path) : await import(pathToFileURL(path.replace('/cjs/', '/esm/')))

export const { deepStrictEqual: same, ok } = assert

/** The call must fail with exactly this class, and say these things. */
export async function raises(kind, call, ...says) {
  let result
  try {
    result = await call()
  } catch (error) {
    ok(sdk[kind], `the SDK has no ${kind}`)
    assert.equal(error.constructor, sdk[kind], `expected ${kind}, not ${error.constructor.name}: ${error.message}`)
    for (const part of says) ok(error.message.includes(part), `"${part}" is missing in: ${error.message}`)
    return error
  }
  assert.fail(`expected ${kind}, not the result ${inspect(result)}`)
}

/** The call must end in time: an SDK that waits for events which never come takes seconds. */
export async function within(seconds, call) {
  const start = performance.now()
  const result = await call()
  const took = (performance.now() - start) / 1000
  ok(took <= seconds, `took ${took.toFixed(2)} s, expected at most ${seconds} s`)
  return result
}

export async function every(items) {
  const all = []
  for await (const item of items) all.push(item)
  return all
}

export function params(settings = {}) {
  return { name: `sdk-${randomBytes(6).toString('hex')}`, ...settings }
}

/** Runs a scenario on a client of its own and ends the process by itself. */
export async function scenario(run) {
  const daytona = new sdk.Daytona()
  await run(daytona)
  await daytona[Symbol.asyncDispose]()
  console.log('ok')
}
