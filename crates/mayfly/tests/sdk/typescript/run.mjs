// Commands, programs and the charts they show.
import { ok, params, raises, same, scenario, within } from './kit.mjs'

const TIMEOUT = 'DaytonaProcessExecutionTimeoutError'

await scenario(async (daytona) => {
  const sandbox = await daytona.create(params({ envVars: { FROM: 'sandbox', BOTH: 'sandbox' } }))
  await commands(sandbox)
  await environment(sandbox)
  await timeLimits(sandbox)
  await python(sandbox)
  await charts(sandbox)
  await sandbox.delete()
  for (const [language, check] of Object.entries({ javascript, typescript })) {
    const other = await daytona.create(params({ language }))
    await check(other)
    await other.delete()
  }
})

async function commands({ process }) {
  const run = (...all) => process.executeCommand(...all)
  const done = await run('echo out; echo err >&2; printf end')
  same([done.exitCode, done.result, done.artifacts.stdout], [0, 'out\nerr\nend', 'out\nerr\nend'])
  same((await run('exit 7')).exitCode, 7)
  same((await run('kill -9 $$')).exitCode, 137)
  same((await run('pwd', '/usr/lib')).result, '/usr/lib\n')
  const seen = await run('printf "%s|" "$FROM" "$BOTH" "$CALL"', undefined, { BOTH: 'call', CALL: "a 'b' ü\n" })
  same(seen.result, "sandbox|call|a 'b' ü\n|")
  same((await run("head -c 300000 /dev/zero | tr '\\0' x")).result, 'x'.repeat(300_000))
  await raises('DaytonaValidationError', () => run('pwd', '/no/such'), '/no/such')
}

async function environment(sandbox) {
  const odd = 'a=b "c" $(id)\n\'ü'
  await sandbox.updateEnv({ LATER: odd, BOTH: 'later', GONE: 'x' })
  await sandbox.updateEnv({ MORE: '' }, { unset: ['GONE', 'NEVER'] })
  const show = 'printf "%s|" "$FROM" "$BOTH" "$LATER" "${GONE-none}" "${MORE-none}"'
  same((await sandbox.process.executeCommand(show)).result, `sandbox|later|${odd}|none||`)
  await sandbox.updateEnv({}, { unset: ['LATER', 'BOTH', 'MORE'] })
  same((await sandbox.process.executeCommand(show)).result, 'sandbox|sandbox||none|none|')
  await raises('DaytonaValidationError', () => sandbox.updateEnv({ 'A=B': 'x' }), 'set')
}

async function timeLimits({ process }) {
  const slow = () => process.executeCommand('sleep 61 & sleep 62', undefined, undefined, 1)
  const error = await within(3, () => raises(TIMEOUT, slow, 'timeout'))
  same(error.statusCode, 408)
  same((await process.executeCommand("ps -e -o args | grep -c '^sleep 6[12]'")).result, '0\n')
  await within(3, () => raises(TIMEOUT, () => process.codeRun('import time; time.sleep(63)', undefined, 1)))
}

async function python({ process }) {
  const done = await process.codeRun("import sys\nprint('ü', 1 + 1)\nprint('oops', file=sys.stderr)")
  same([done.exitCode, done.result, done.artifacts.charts], [0, 'ü 2\noops\n', []])
  const failed = await process.codeRun("raise ValueError('boom')")
  same(failed.exitCode, 1)
  ok(failed.result.includes('ValueError: boom'), failed.result)
  const program = 'import os, sys\nprint(sys.argv[1:], os.environ["X"])'
  same((await process.codeRun(program, { argv: ['a b', '-c'], env: { X: 'y z' } })).result, "['a b', '-c'] y z\n")
}

async function javascript({ process }) {
  const program = 'console.log(process.argv.slice(2), process.env.X, typeof require("os").cpus)'
  const done = await process.codeRun(program, { argv: ['a b'], env: { X: 'y' } })
  same([done.exitCode, done.result], [0, "[ 'a b' ] y function\n"])
  const failed = await process.codeRun("throw new Error('boom')")
  same(failed.exitCode, 1)
  ok(failed.result.includes('Error: boom'), failed.result)
}

async function typescript({ process }) {
  const program = `
interface Point { x: number; y: number }
const sum = (points: Point[]): number => points.reduce((all, { x, y }) => all + x * y, 0);
console.log(sum([{ x: 2, y: 3 }, { x: 4, y: 5 }] as Point[]), process.argv.slice(2));
`
  const done = await process.codeRun(program, { argv: ['a b'] })
  same([done.exitCode, done.result], [0, "26 [ 'a b' ]\n"])
}

async function charts({ process }) {
  const done = await process.codeRun(`
import matplotlib.pyplot as plt
plt.plot([1, 2, 3], [4, 5, float("nan")], label="first")
plt.title("Lines"); plt.xlabel("time"); plt.ylabel("size"); plt.yscale("log"); plt.show()
plt.scatter([1, 2], [3, 4], label="dots"); plt.title("Dots"); plt.show()
plt.bar(["a", "b"], [10, 2.5], label="bars"); plt.title("Bars"); plt.show()
plt.pie([1, 3], labels=["small", "large"]); plt.title("Pie"); plt.show()
plt.boxplot([[1, 2, 3, 4, 100]]); plt.title("Boxes"); plt.show()
figure, (left, right) = plt.subplots(1, 2)
figure.suptitle("Both")
left.plot([0, 1], [0, 1]); left.set_title("Left")
right.bar(["x"], [1]); right.set_title("Right")
plt.show()
print("shown")
`)
  same([done.exitCode, done.result], [0, 'shown\n'])
  const found = done.artifacts.charts
  same(found.map(({ type, title }) => [type, title]), [
    ['line', 'Lines'],
    ['scatter', 'Dots'],
    ['bar', 'Bars'],
    ['pie', 'Pie'],
    ['box_and_whisker', 'Boxes'],
    ['composite_chart', 'Both'],
  ])
  for (const { png } of found) same(Buffer.from(png, 'base64').subarray(1, 4).toString(), 'PNG')
  const [line, scatter, bar, pie, boxes, both] = found
  same([line.x_label, line.y_label, line.y_scale], ['time', 'size', 'log'])
  same(line.elements.map(({ label, points }) => [label, points]), [['first', [[1, 4], [2, 5]]]])
  same(line.x_ticks.length, line.x_tick_labels.length)
  same(scatter.elements.map(({ label, points }) => [label, points]), [['dots', [[1, 3], [2, 4]]]])
  same(bar.elements.map(({ label, group, value }) => [label, group, value]), [['a', 'bars', '10'], ['b', 'bars', '2.5']])
  same(pie.elements.map(({ label, angle }) => [label, Math.round(angle)]), [['small', 90], ['large', 270]])
  const [box] = boxes.elements
  same([box.min, box.first_quartile, box.median, box.third_quartile, box.max, box.outliers], [1, 2, 3, 4, 4, [100]])
  same(both.elements.map(({ type, title }) => [type, title]), [['line', 'Left'], ['bar', 'Right']])
}
