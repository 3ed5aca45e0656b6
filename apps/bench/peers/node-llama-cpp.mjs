// node node-llama-cpp.mjs DIR '{ model, threads, prompt, generate }': one JSON line { prefillMs, decodeMs } of node-llama-cpp as installed in DIR.
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';

const [dir, options] = process.argv.slice(2);
const { model: modelPath, threads, prompt, generate } = JSON.parse(options);
const resolve = createRequire(join(dir, 'package.json')).resolve;
const { getLlama, LlamaLogLevel } = await import(pathToFileURL(resolve('node-llama-cpp')));

const llama = await getLlama({ gpu: false, build: 'never', maxThreads: threads, logLevel: LlamaLogLevel.error });
const model = await llama.loadModel({ modelPath });
const size = Math.max(prompt.length, generate + 1) + 8;
const context = await model.createContext({ contextSize: size, batchSize: 512, threads, flashAttention: true });
const sequence = context.getSequence();

async function decode(first, count) {
  const tokens = sequence.evaluate([first], { temperature: 0, yieldEogToken: true });
  for (let made = 0; made < count; made++) await tokens.next();
  await tokens.return();
}

async function timed(work) {
  await sequence.clearHistory();
  const started = performance.now();
  await work();
  return performance.now() - started;
}

await timed(() => sequence.evaluateWithoutGeneratingNewTokens(prompt.slice(0, 64)));
await timed(() => decode(prompt[0], 4));
const prefillMs = await timed(() => sequence.evaluateWithoutGeneratingNewTokens(prompt));
const decodeMs = await timed(() => decode(prompt[0], generate));
console.log(JSON.stringify({ prefillMs, decodeMs }));
process.exit(0);
