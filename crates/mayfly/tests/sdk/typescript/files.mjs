// Every call on files.
import { randomBytes } from 'node:crypto'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { ok, params, raises, same, scenario } from './kit.mjs'

const MISSING = 'DaytonaFileNotFoundError'
const NAMES = ['plain.txt', 'two words.txt', 'it\'s "quoted".txt', 'käse-ü-日本.txt', 'back\\slash; $(id) #?&%41.txt']

await scenario(async (daytona) => {
  const sandbox = await daytona.create(params())
  const folder = mkdtempSync(join(tmpdir(), 'mayfly-sdk-'))
  try {
    await upAndDown(sandbox, folder)
    await many(sandbox, folder)
  } finally {
    rmSync(folder, { recursive: true })
  }
  await streams(sandbox)
  await signed(sandbox)
  await names(sandbox)
  await folders(sandbox)
  await contents(sandbox)
  await refusals(sandbox)
  await sandbox.delete()
})

async function upAndDown({ fs }, folder) {
  const everything = Buffer.alloc(256_000, Buffer.from(Array.from({ length: 256 }, (_, n) => n)))
  await fs.uploadFile(everything, 'all.bin')
  ok(everything.equals(await fs.downloadFile('all.bin')))
  ok(everything.equals(await fs.downloadFile('/root/all.bin')))
  await fs.uploadFile(Buffer.from('shorter'), 'all.bin')
  same((await fs.downloadFile('all.bin')).toString(), 'shorter')

  const [local, back] = [join(folder, 'local'), join(folder, 'back')]
  writeFileSync(local, randomBytes(3_000_000))
  await fs.uploadFile(local, 'new/parents/are/made.bin')
  await fs.downloadFile('new/parents/are/made.bin', back)
  ok(readFileSync(local).equals(readFileSync(back)))
  await fs.uploadFile(Buffer.alloc(0), 'empty')
  same((await fs.getFileDetails('empty')).size, 0)
}

async function many({ fs }, folder) {
  const local = join(folder, 'many')
  writeFileSync(local, 'from a file')
  const numbers = Array.from({ length: 20 }, (_, n) => n)
  const uploads = numbers.map((n) => ({ source: Buffer.from(`number ${n}`), destination: `many/${n}.txt` }))
  await fs.uploadFiles([...uploads, { source: local, destination: 'many/local.txt' }])
  const back = join(folder, 'many-back')
  const asked = numbers.map((n) => ({ source: `many/${n}.txt` }))
  asked.push({ source: 'many/none.txt' }, { source: 'many/local.txt', destination: back })
  const results = await fs.downloadFiles(asked)
  same(results.slice(0, 20).map((one) => one.result.toString()), numbers.map((n) => `number ${n}`))
  const [missing, stored] = results.slice(20)
  same([missing.source, missing.result, missing.errorDetails.statusCode], ['many/none.txt', undefined, 404])
  same(missing.errorDetails.code ?? missing.errorDetails.errorCode, 'FILE_NOT_FOUND')
  ok(missing.error.includes('many/none.txt'), missing.error)
  same(stored.result, back)
  same(readFileSync(back, 'utf8'), 'from a file')
}

async function streams({ fs }) {
  const content = randomBytes(2_000_000)
  let sent = 0
  let total
  await fs.uploadFileStream(content, 'stream.bin', { onProgress: ({ bytesSent }) => (sent = bytesSent) })
  same(sent, content.length)
  const chunks = []
  const stream = await fs.downloadFileStream('stream.bin', { onProgress: ({ totalBytes }) => (total = totalBytes) })
  for await (const chunk of stream) chunks.push(chunk)
  ok(content.equals(Buffer.concat(chunks)))
  ok(total === undefined || total === content.length, `total ${total}`)
}

async function signed(sandbox) {
  const upload = await sandbox.uploadUrl('/root/signed ü.txt', 60)
  same((await fetch(upload, { method: 'POST', body: 'by url' })).status, 200)
  const download = await sandbox.downloadUrl('/root/signed ü.txt', 60)
  same(await (await fetch(download)).text(), 'by url')
  await sandbox.rotateSigningKey()
  same((await fetch(download)).status, 401)
}

async function names({ fs }) {
  await fs.uploadFiles(NAMES.map((name) => ({ source: Buffer.from(name), destination: `names/${name}` })))
  same((await fs.listFiles('names')).map((one) => one.name).sort(), [...NAMES].sort())
  const results = await fs.downloadFiles(NAMES.map((name) => ({ source: `names/${name}` })))
  same(results.map((one) => [one.source, one.result?.toString()]), NAMES.map((name) => [`names/${name}`, name]))
  for (const name of NAMES) {
    same((await fs.downloadFile(`names/${name}`)).toString(), name)
    same((await fs.getFileDetails(`names/${name}`)).name, name)
    await fs.moveFiles(`names/${name}`, `names/${name}2`)
    await fs.deleteFile(`names/${name}2`)
  }
  same(await fs.listFiles('names'), [])
}

async function folders({ fs }) {
  await fs.createFolder('a/b/c', '750')
  await fs.createFolder('a/b/c', '0755')
  let info = await fs.getFileDetails('a/b/c')
  same([info.name, info.isDir, info.mode, info.permissions], ['c', true, 'drwxr-x---', '0750'])
  await fs.uploadFile(Buffer.from('12345'), 'a/b/five')
  await fs.setFilePermissions('a/b/five', { mode: '640', owner: 'daemon', group: 'daemon' })
  info = await fs.getFileDetails('a/b/five')
  same([info.size, info.isDir, info.mode, info.permissions], [5, false, '-rw-r-----', '0640'])
  same([info.owner, info.group, !!info.modTime], ['daemon', 'daemon', true])
  const deep = await fs.listFiles('a', { depth: 2 })
  same(deep.map((one) => one.name).sort(), ['b', 'c', 'five'])
  await fs.moveFiles('a/b', 'a/moved')
  same((await fs.downloadFile('a/moved/five')).toString(), '12345')
  await raises('DaytonaValidationError', () => fs.deleteFile('a'), 'recursive')
  await fs.deleteFile('a', true)
  await raises(MISSING, () => fs.getFileDetails('a'))
}

async function contents({ fs }) {
  const files = { 'src/one.py': 'x = 1\n# .* here\ny = 2\n', 'src/deep/two.py': '# .* there', 'src/b.bin': '\0# .*' }
  await fs.uploadFiles(
    Object.entries(files).map(([destination, content]) => ({ source: Buffer.from(content), destination })),
  )
  const found = (await fs.findFiles('/root/src', '# .*')).sort((a, b) => (a.file < b.file ? -1 : 1))
  same(found.map(({ file, line, content }) => [file, line, content]), [
    ['/root/src/deep/two.py', 1, '# .* there'],
    ['/root/src/one.py', 2, '# .* here'],
  ])
  const globbed = await fs.searchFiles('/root/src', '*.py')
  same(globbed.files.sort(), ['/root/src/deep/two.py', '/root/src/one.py'])
  const results = await fs.replaceInFiles(['src/one.py', 'src/none.py'], '# .*', '// $1')
  same(results.map(({ file, success }) => [file, success]), [['src/one.py', true], ['src/none.py', false]])
  ok(results[1].error)
  same((await fs.downloadFile('src/one.py')).toString(), 'x = 1\n// $1 here\ny = 2\n')
}

async function refusals({ fs }) {
  const error = await raises(MISSING, () => fs.downloadFile('none.txt'), 'none.txt')
  same(error.statusCode, 404)
  await raises(MISSING, () => fs.listFiles('/none'), '/none')
  await raises(MISSING, () => fs.deleteFile('none.txt'), 'none.txt')
  await raises(MISSING, () => fs.moveFiles('none.txt', 'other.txt'), 'none.txt')
  await fs.uploadFiles(['one', 'two'].map((name) => ({ source: Buffer.from(name), destination: name })))
  await raises('DaytonaConflictError', () => fs.moveFiles('one', 'two'), 'two')
  await raises('DaytonaValidationError', () => fs.createFolder('x', '9z9'), 'mode')
}
