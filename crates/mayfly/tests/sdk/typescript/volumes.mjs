// Volumes: made by name, shared by sandboxes, mounted in part, deleted when nobody mounts them (case 20).
import { params, raises, same, scenario } from './kit.mjs'

await scenario(async (daytona) => {
  const { name } = params()
  await raises('DaytonaNotFoundError', () => daytona.volume.get(name), name)
  const volume = await daytona.volume.get(name, true)
  same([volume.name, volume.state], [name, 'ready'])
  same((await daytona.volume.get(name)).id, volume.id)
  same((await daytona.volume.list()).map((one) => one.name), [name])
  const wish = (mount) => daytona.create(params({ volumes: [{ volumeId: volume.id, ...mount }] }))
  await raises('DaytonaNotFoundError', () => wish({ volumeId: 'none', mountPath: '/data' }), 'none')
  const whole = await wish({ mountPath: '/data' })
  await whole.fs.uploadFile(Buffer.from('from the whole'), '/data/users/ann/file')
  const part = await wish({ mountPath: '/home/ann/mine', subpath: 'users/ann' })
  same((await part.process.executeCommand('cat /home/ann/mine/file')).result, 'from the whole')
  await part.process.executeCommand('echo back > /home/ann/mine/answer')
  same((await whole.fs.downloadFile('/data/users/ann/answer')).toString(), 'back\n')
  await raises('DaytonaConflictError', () => daytona.volume.delete(volume), 'in use')
  await whole.delete()
  await part.delete()
  await daytona.volume.delete(volume)
  same(await daytona.volume.list(), [])
})
