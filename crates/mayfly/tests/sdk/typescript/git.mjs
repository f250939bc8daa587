// git in a sandbox, against a git host on its own loopback: over http with a password, and over ssh with a key.
import { readFile } from 'node:fs/promises'
import { ok, params, raises, same, scenario } from './kit.mjs'

const HTTP = 'http://127.0.0.1:8418'
const SSH = 'ssh://root@127.0.0.1:8422/srv/git'
const LOGIN = ['user', 's3cret pass%word']
const WHO = ['Ada Ü', 'ada@example.org']
const AUTH = 'DaytonaGitAuthFailedError'
const BRANCH = 'DaytonaGitBranchNotFoundError'
const INVALID = 'DaytonaValidationError'

await scenario(async (daytona) => {
  const sandbox = await daytona.create(params())
  await mirror(sandbox)
  await refusals(sandbox)
  await over(sandbox, 'http', `${HTTP}/repo.git`, LOGIN)
  await over(sandbox, 'ssh', `${SSH}/over-ssh.git`, [undefined, undefined])
  await work(sandbox)
  await settings(sandbox)
  await sandbox.delete()
})

async function sh(sandbox, command) {
  const done = await sandbox.process.executeCommand(command)
  ok(done.exitCode === 0, `${command}: ${done.exitCode} ${done.result}`)
  return done.result
}

async function mirror(sandbox) {
  await sandbox.fs.uploadFile(await readFile(new URL('../mirror/serve.py', import.meta.url)), '/srv/serve.py')
  await sh(sandbox, 'python3 /srv/serve.py setup')
  for (const verb of ['http', 'ssh'])
    await sh(sandbox, `setsid python3 /srv/serve.py ${verb} >/srv/${verb}.log 2>&1 </dev/null &`)
  await sh(sandbox, 'python3 /srv/serve.py wait || { cat /srv/*.log; exit 1; }')
}

async function refusals({ git }) {
  await raises('DaytonaGitRepoNotFoundError', () => git.status('/'))
  await raises('DaytonaGitRepoNotFoundError', () => git.clone(`${HTTP}/open/none.git`, 'none'))
  await raises(AUTH, () => git.clone(`${HTTP}/repo.git`, 'none'))
  await raises(AUTH, () => git.clone(`${HTTP}/repo.git`, 'none', undefined, undefined, 'user', 'wrong'))
  await raises('DaytonaGitTransportFailedError', () => git.clone('ssh://127.0.0.1:1/r.git', 'none'))
  await raises(BRANCH, () => git.clone('/srv/git/repo.git', 'none', 'nope'))
  await raises(INVALID, () => git.clone('--upload-pack=id', 'none'), 'url')
  await raises(INVALID, () => git.clone("ext::sh -c 'id'", 'none'), 'url')
}

/** Two clones of one remote: what one pushes the other pulls, until they contradict each other. */
async function over(sandbox, name, url, login) {
  const { git } = sandbox
  const [one, two] = [`${name}-one`, `${name}-two`]
  const change = async (path, text) => {
    await sh(sandbox, `echo "${text}" >> ${path}/file.txt`)
    await git.add(path, ['file.txt'])
    return git.commit(path, `Say ${text}`, ...WHO)
  }
  await git.clone(url, one, undefined, undefined, ...login)
  await git.clone(url, two, 'side', undefined, ...login, false, 1)
  same((await git.status(two)).currentBranch, 'side')
  await git.checkoutBranch(one, 'side')
  const made = await change(one, 'one')
  same((await git.status(one)).ahead, 1)
  await git.push(one, ...login)
  await git.pull(two, ...login)
  const [newest] = await history(sandbox, two)
  same([newest.hash, newest.author, newest.email, newest.message], [made.sha, ...WHO, 'Say one'])
  ok(/^2\d{3}-\d\d-\d\dT\d\d:\d\d:\d\d\.000Z$/.test(newest.timestamp), newest.timestamp)
  await change(one, 'more')
  await change(two, 'other')
  await git.push(one, ...login)
  await raises('DaytonaGitPushRejectedError', () => git.push(two, ...login))
  await git.configureUser('x', 'x@y', 'local', two)
  await raises('DaytonaGitMergeConflictError', () => git.pull(two, ...login, 'side', 'origin'))
  same((await git.status(two)).fileStatus, [
    { name: 'file.txt', extra: '', staging: 'Updated but unmerged', worktree: 'Updated but unmerged' },
  ])
  await git.reset(two, 'hard', 'origin/side')
  await git.createBranch(two, 'topic')
  await git.push(two, ...login, 'topic', 'origin', true)
  const status = await git.status(two)
  same([status.ahead, status.behind, status.branchPublished, status.detached], [0, 0, true, false])
  const strict = `${url.slice(0, url.lastIndexOf('/'))}/strict.git`
  await git.remoteAdd(two, 'strict', strict)
  await raises('DaytonaGitRemoteRejectedError', () => git.push(two, ...login, 'topic', 'strict'), 'no pushes here')
}

/** The SDK has no method for it. */
async function history(sandbox, path) {
  const url = `${process.env.DAYTONA_API_URL.replace(/\/api$/, '')}/toolbox/${sandbox.id}/git/history?path=${path}`
  const answer = await fetch(url, { headers: { Authorization: `Bearer ${process.env.DAYTONA_API_KEY}` } })
  same(answer.status, 200)
  return answer.json()
}

async function work(sandbox) {
  const { git } = sandbox
  await git.init('made', false, 'trunk')
  same(await git.branches('made'), { branches: [], current: 'trunk' })
  same(await history(sandbox, 'made'), [])
  await sandbox.fs.uploadFile(Buffer.from('x'), 'made/spa ce "ü"')
  same((await git.status('made')).fileStatus, [
    { name: 'spa ce "ü"', extra: '', staging: 'Untracked', worktree: 'Untracked' },
  ])
  await git.add('made', ['.'])
  const { sha } = await git.commit('made', 'First', ...WHO)
  same(sha.length, 40)
  await raises('DaytonaConflictError', () => git.commit('made', 'Second', ...WHO), 'staged')
  await git.commit('made', 'Empty', ...WHO, true)
  await git.createBranch('made', 'b')
  await raises('DaytonaGitBranchExistsError', () => git.createBranch('made', 'b'))
  await git.checkoutBranch('made', 'b')
  await git.deleteBranch('made', 'trunk')
  await raises(BRANCH, () => git.deleteBranch('made', 'trunk'))
  await raises(BRANCH, () => git.checkoutBranch('made', 'trunk'))
  await git.reset('made', undefined, 'HEAD~1')
  await sh(sandbox, `cd made && echo more >> 'spa ce "ü"'`)
  await git.restore('made', ['spa ce "ü"'])
  same((await git.status('made')).fileStatus, [])
  await git.checkoutBranch('made', sha)
  const status = await git.status('made')
  same([status.currentBranch, status.detached, status.upstream], ['HEAD', true, undefined])
  await git.remoteAdd('made', 'origin', '/srv/git/repo.git', true)
  await raises('DaytonaConflictError', () => git.remoteAdd('made', 'origin', '/elsewhere'))
  await git.remoteAdd('made', 'origin', '/elsewhere', false, true)
  same(await git.remoteGet('made', 'origin'), '/elsewhere')
  same(await git.remoteGet('made', 'none'), undefined)
  same(await git.remotes('made'), { remotes: [{ name: 'origin', url: '/elsewhere' }] })
}

async function settings(sandbox) {
  const { git } = sandbox
  ok((await git.getConfig('user.name')) == null)
  await git.configureUser(...WHO)
  same(await git.getConfig('user.name'), WHO[0])
  await git.setConfig('a.b', '-v "x"\n', 'local', 'made')
  same(await git.getConfig('a.b', 'local', 'made'), '-v "x"\n')
  await raises(INVALID, () => git.setConfig('a.b', 'x', 'local'), 'path')
  await git.dangerouslyAuthenticate(...LOGIN, '127.0.0.1:8418', 'http')
  same(await sh(sandbox, 'stat -c %a ~/.git-credentials'), '600\n')
  await git.clone(`${HTTP}/repo.git`, 'stored')
}
