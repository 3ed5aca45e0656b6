// Runs inside of the project that has the packages installed: `node generate.mjs MODEL BACKEND`. Prints what was generated as JSON.
import { createReferenceBackend } from '@filigree/core-tensor';
import { generate, loadModel } from '@filigree/transformer';

const [path, kind] = process.argv.slice(2);
const { createNativeBackend } = kind === 'native' ? await import('@filigree/backend-native') : {};
const backend = createNativeBackend?.({ threads: 2, fallback: 'error' }) ?? createReferenceBackend();
const model = await loadModel(path, { backend });
const generation = generate(model, 'sieve', { maxTokens: 8, ignoreEos: true });
const tokens = [];
for await (const { token } of generation) tokens.push(token);
const { reason, stats } = generation;
model.dispose();
console.log(JSON.stringify({ backend: backend.kind, tokens, reason, promptTokens: stats.promptTokens }));
backend.dispose();
