// node node-llama-cpp.mjs DIR '{ model, threads, text, test }': one JSON line { milliseconds } of node-llama-cpp as installed in DIR;
// src/llama/speed-test.ts says what a test is.
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';

const [dir, options] = process.argv.slice(2);
const { model: modelPath, threads, text, test } = JSON.parse(options);
const resolve = createRequire(join(dir, 'package.json')).resolve;
const { getLlama, LlamaLogLevel } = await import(pathToFileURL(resolve('node-llama-cpp')));

const llama = await getLlama({ gpu: false, build: 'never', maxThreads: threads, logLevel: LlamaLogLevel.error });
const model = await llama.loadModel({ modelPath });
const size = test.context + Math.max(test.tokens, 64) + 8;
const context = await model.createContext({ contextSize: size, batchSize: 512, threads, flashAttention: true });
const sequence = context.getSequence();

const read = (tokens) => sequence.evaluateWithoutGeneratingNewTokens(tokens);

async function decode(first, count) {
  const tokens = sequence.evaluate([first], { temperature: 0, yieldEogToken: true });
  for (let made = 0; made < count; made++) await tokens.next();
  await tokens.return();
}

// A warm-up of both phases.
await read(text.slice(0, 64));
await decode(text[0], 4);
await sequence.clearHistory();

const rest = text.slice(test.context);
if (test.context > 0) await read(text.slice(0, test.context));
const started = performance.now();
if (test.phase === 'prefill') await read(rest.slice(0, test.tokens));
else await decode(rest[0], test.tokens);
console.log(JSON.stringify({ milliseconds: performance.now() - started }));
process.exit(0);
