// What runs in the page: Uppy with its tus plugin, once for each call of window.upload.
import Uppy from '@uppy/core'
import Tus from '@uppy/tus'

window.upload = async ({ url, type, chunk, restart }) => {
  let resumed = 0
  const uppy = new Uppy().use(Tus, {
    endpoint: url,
    chunkSize: chunk,
    retryDelays: restart ? [] : [0, 50, 200, 1000, 3000],
    onBeforeRequest: (request) => {
      resumed += request.getMethod() === 'HEAD' ? 1 : 0
    },
  })
  try {
    const [file] = document.querySelector('input').files
    uppy.addFile({ name: file.name, type, data: file })
    const { successful, failed } = await uppy.upload()
    if (failed.length) return { error: failed[0].error, resumed }
    return { url: successful[0].uploadURL, resumed, bytes: successful[0].size }
  } finally {
    uppy.destroy()
  }
}
