// One job a line in, one outcome a line out; the process ends with its input.
import { createInterface } from 'node:readline'

export async function serve(upload) {
  for await (const line of createInterface({ input: process.stdin })) {
    let outcome
    try {
      outcome = await upload(JSON.parse(line))
    } catch (error) {
      outcome = { error: String(error) }
    }
    process.stdout.write(`${JSON.stringify(outcome)}\n`)
  }
}
