// Uppy in a headless Chromium, whose path is the argument. The page comes from a port of its own, so that every request
// to the upload server is a cross-origin one. A job that restarts makes no retries: the page is loaded anew for each
// attempt, and Uppy finds the URL of the one before it in the browser's storage.
import { createServer } from 'node:http'
import { fileURLToPath } from 'node:url'
import { build } from 'esbuild'
import { chromium } from 'playwright-core'
import { serve } from './lines.mjs'

const ATTEMPTS = 20
const PAGE = '<!doctype html><meta charset="utf-8"><title>Upload</title><input type="file"><script src="/page.js"></script>'
const FLAGS = [
  '--no-sandbox', // root has no other way
  '--disable-gpu',
  '--disable-quic',
  '--no-first-run',
  '--disable-background-networking',
  '--disable-component-update',
  '--disable-sync',
]

const bundled = await build({
  entryPoints: [fileURLToPath(new URL('page.js', import.meta.url))],
  bundle: true,
  write: false,
  format: 'iife',
  logLevel: 'error',
})
const script = bundled.outputFiles[0].contents

const pages = createServer((request, response) => {
  const isScript = request.url === '/page.js'
  response.setHeader('Content-Type', isScript ? 'text/javascript; charset=utf-8' : 'text/html; charset=utf-8')
  response.end(isScript ? script : PAGE)
})
await new Promise((resolve) => pages.listen(0, '127.0.0.1', resolve))

const browser = await chromium.launch({ executablePath: process.argv[2], headless: true, args: FLAGS })
const page = await browser.newPage()
// A machine without any network but loopback is "offline" to a browser, and Uppy would wait for ever
await page.addInitScript(() => Object.defineProperty(navigator, 'onLine', { get: () => true }))

async function attempt(job) {
  await page.goto(`http://127.0.0.1:${pages.address().port}/`)
  await page.setInputFiles('input', job.file)
  return page.evaluate((each) => window.upload(each), job)
}

await serve(async (job) => {
  let resumed = 0
  for (let left = job.restart ? ATTEMPTS : 1; ; left--) {
    const outcome = await attempt(job)
    resumed += outcome.resumed
    if (!outcome.error || left === 1) return { ...outcome, resumed }
  }
})
await browser.close()
pages.close()
