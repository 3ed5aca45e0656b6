// Runs inside of the project that has the packages installed: `node run-packages.mjs NAME…`. Prints what it found as JSON.
import { createReferenceBackend, fromArray, rmsNorm } from '@filigree/core-tensor';

const exports = {};
for (const name of process.argv.slice(2)) exports[name] = Object.keys(await import(name)).length;

async function normalised(backend) {
  const x = fromArray(backend, Float32Array.of(3, 4, -6, 8), [2, 2]);
  const y = rmsNorm(x, fromArray(backend, Float32Array.of(1, 2), [2]), { eps: 0 });
  const values = Array.from(await y.readNumbers(), (value) => Math.round(value * 1e4) / 1e4);
  const [kernel] = [backend.kind];
  backend.dispose();
  return { kernel, values };
}

const results = { reference: await normalised(createReferenceBackend()) };
if (process.env.EXPECT_NATIVE === '1') {
  const { createNativeBackend } = await import('@filigree/backend-native');
  results.native = await normalised(createNativeBackend({ threads: 2, fallback: 'error' }));
}
console.log(JSON.stringify({ version: process.version, exports, results }));
