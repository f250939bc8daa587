// Ways out of a sandbox and into it: network settings, previews, SSH tokens.
import { request } from 'node:http'

import { ok, params, raises, same, scenario } from './kit.mjs'

await scenario(async (daytona) => {
  await networks(daytona)
  const sandbox = await daytona.create(params())
  await previews(sandbox)
  await ssh(sandbox)
  await sandbox.delete()
})

async function networks(daytona) {
  const sandbox = await daytona.create(params({ networkAllowList: '192.0.2.0/24' }))
  await shows(sandbox, [false, '192.0.2.0/24', ''])
  await sandbox.updateNetworkSettings({ networkBlockAll: true })
  await shows(sandbox, [true, '192.0.2.0/24', ''])
  await sandbox.updateNetworkSettings({ domainAllowList: 'example.com,*.example.org' })
  await shows(sandbox, [false, '192.0.2.0/24', 'example.com,*.example.org'])
  const bad = () => sandbox.updateNetworkSettings({ networkAllowList: '192.0.2.0/33' })
  await raises('DaytonaValidationError', bad, '192.0.2.0/33')
  await sandbox.updateNetworkSettings({ networkBlockAll: false })
  await shows(sandbox, [false, '', ''])
  await sandbox.delete()
}

async function shows(sandbox, expected) {
  await sandbox.refreshData()
  same([sandbox.networkBlockAll, sandbox.networkAllowList ?? '', sandbox.domainAllowList ?? ''], expected)
}

async function previews(sandbox) {
  const serve = 'mkdir -p /tmp/site && cd /tmp/site && echo hello > index.html && setsid python3 -m http.server 8000'
  await sandbox.process.executeCommand(`(${serve}) > /dev/null 2>&1 &`)
  const link = await sandbox.getPreviewLink(8000)
  same(await there(link.url, { 'x-daytona-preview-token': link.token }), [200, 'hello\n'])
  same((await there(link.url, {}))[0], 401)
  const signed = await sandbox.getSignedPreviewUrl(8000, 60)
  same(await there(signed.url, {}), [200, 'hello\n'])
  await sandbox.expireSignedPreviewUrl(8000, signed.token)
  same((await there(signed.url, {}))[0], 401)
}

/** What a visitor sees, once the service has begun to listen. The name is not looked up. */
async function there(url, headers) {
  const { host, port } = new URL(url)
  let seen
  for (let tries = 0; tries < 250; tries++) {
    seen = await visit({ host: '127.0.0.1', port, path: '/', headers: { ...headers, host } })
    if (seen[0] !== 502) break
    await new Promise((resolve) => setTimeout(resolve, 40))
  }
  return seen
}

function visit(options) {
  return new Promise((resolve, reject) => {
    const sent = request(options, async (answer) => {
      let text = ''
      for await (const piece of answer) text += piece
      resolve([answer.statusCode, answer.statusCode === 200 ? text : ''])
    })
    sent.on('error', reject)
    sent.end()
  })
}

async function ssh(sandbox) {
  const access = await sandbox.createSshAccess(30)
  same(access.sandboxId, sandbox.id)
  ok(access.sshCommand.includes(access.token))
  const found = await sandbox.validateSshAccess(access.token)
  same([found.valid, found.sandboxId], [true, sandbox.id])
  await sandbox.revokeSshAccess(access.token)
  same((await sandbox.validateSshAccess(access.token)).valid, false)
}
