// Language servers in a sandbox: real ones for Python and TypeScript.
import { ok, params, raises, same, scenario } from './kit.mjs'

const MISSING = 'DaytonaLspServerNotInitializedError'

await scenario(async (daytona) => {
  const sandbox = await daytona.create(params())
  await typescript(sandbox)
  await python(sandbox)
  await sandbox.delete()
})

async function typescript(sandbox) {
  const text = 'export class Robot {\n  beep(times: number): string { return "beep".repeat(times) }\n}\nnew Robot().\n'
  await sandbox.fs.uploadFile(Buffer.from(text), 'robots/main.ts')
  const lsp = await sandbox.createLspServer('typescript', 'robots')
  await raises(MISSING, () => lsp.didOpen('robots/main.ts'))
  await raises(MISSING, () => lsp.stop())
  await lsp.start()
  await lsp.start()
  await lsp.didOpen('robots/main.ts')
  const { isIncomplete, items } = await lsp.completions('robots/main.ts', { line: 3, character: 12 })
  same([isIncomplete, items.map(({ label, kind }) => [label, kind])], [false, [['beep', 2]]])
  const symbols = await lsp.documentSymbols('robots/main.ts')
  same(symbols.map(({ name, kind }) => [name, kind]), [['Robot', 5], ['beep', 6]])
  same(symbols[0].location, {
    uri: 'file://robots/main.ts',
    range: { start: { line: 0, character: 0 }, end: { line: 2, character: 1 } },
  })
  const wide = await lsp.sandboxSymbols('Robot')
  same(wide.map(({ name, location }) => [name, location.uri]), [['Robot', 'file://robots/main.ts']])
  await lsp.didClose('robots/main.ts')
  await lsp.stop()
  await raises(MISSING, () => lsp.sandboxSymbols('Robot'))
}

async function python(sandbox) {
  await sandbox.fs.uploadFile(Buffer.from('class Zoo:\n    def feed(self): ...\nZoo().\n'), 'zoo/a.py')
  const lsp = await sandbox.createLspServer('python', 'zoo')
  await lsp.start()
  await lsp.didOpen('zoo/a.py')
  const { items } = await lsp.completions('zoo/a.py', { line: 2, character: 6 })
  ok(items.some(({ label }) => label === 'feed'), items)
  same((await lsp.documentSymbols('zoo/a.py')).map(({ name }) => name), ['Zoo', 'feed'])
  await lsp.stop()
}
