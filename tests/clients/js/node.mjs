// tus-js-client in node. A job that restarts makes no retries: each attempt is a new Upload, which finds the URL of the
// one before it in a file, as a program does that was started again.
import { createReadStream, rmSync } from 'node:fs'
import { basename } from 'node:path'
import { FileUrlStorage, Upload } from 'tus-js-client'
import { serve } from './lines.mjs'

const RETRY_DELAYS = [0, 50, 200, 1000, 3000]
const ATTEMPTS = 20

function attempt(job, seen) {
  return new Promise((resolve, reject) => {
    const file = createReadStream(job.file).on('error', reject)
    const upload = new Upload(file, {
      endpoint: job.url,
      chunkSize: job.chunk,
      retryDelays: job.restart ? null : RETRY_DELAYS,
      metadata: { filename: basename(job.file), filetype: job.type },
      urlStorage: new FileUrlStorage(job.memory),
      removeFingerprintOnSuccess: true,
      onBeforeRequest: (request) => {
        seen.resumed += request.getMethod() === 'HEAD' ? 1 : 0
      },
      onProgress: (sent) => {
        seen.bytes = sent
      },
      onError: (error) => {
        file.destroy()
        reject(error)
      },
      onSuccess: () => {
        file.destroy()
        resolve({ url: upload.url, ...seen })
      },
    })
    upload.findPreviousUploads().then((previous) => {
      if (previous.length) upload.resumeFromPreviousUpload(previous[0])
      upload.start()
    }, reject)
  })
}

await serve(async (job) => {
  const seen = { resumed: 0, bytes: 0 }
  rmSync(job.memory, { force: true })
  for (let left = job.restart ? ATTEMPTS : 1; ; left--) {
    try {
      return await attempt(job, seen)
    } catch (error) {
      if (left === 1) throw error
    }
  }
})
