// node onnxruntime.mjs DIR '{ threads, passes, layers, work }': one JSON line { milliseconds } of one layer, a median of the passes, with
// onnxruntime-node as installed in DIR; src/kernels/kernel-work.ts says what a work is. `layers` of them run as one graph, each with weights or
// a cache of its own, so that they come from memory as in a model.
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

const [dir, options] = process.argv.slice(2);
const { threads, passes, layers, work } = JSON.parse(options);
const require = createRequire(join(dir, 'package.json'));
const { InferenceSession, Tensor } = require('onnxruntime-node');
const protobuf = require('protobufjs');

const Model = protobuf.loadSync(join(import.meta.dirname, 'onnx.proto')).lookupType('onnx.ModelProto');
const [FLOAT, UINT8, INT32] = [1, 2, 6];
const attribute = (name, i) => ({ name, i, type: 2 });

function valueInfo(name, elemType, dims) {
  return { name, type: { tensorType: { elemType, shape: { dim: dims.map((dimValue) => ({ dimValue })) } } } };
}

function encode(graph) {
  const opsetImport = [
    { domain: '', version: 17 },
    { domain: 'com.microsoft', version: 1 },
  ];
  const message = { irVersion: 8, producerName: 'filigree bench', graph: { name: 'layers', ...graph }, opsetImport };
  return Model.encode(Model.fromObject(message)).finish();
}

function randomFloats(length) {
  return Float32Array.from({ length }, () => Math.random() - 0.5);
}

/** Products in a chain, sizes[0] → sizes[1] → … → sizes[0]: 4 bits, a scale per 32 weights, activations in 8 bits. */
function matmuls({ tokens, sizes }) {
  const node = [];
  const initializer = [];
  for (let layer = 0; layer < layers; layer++) {
    const [K, N] = [sizes[layer % sizes.length], sizes[(layer + 1) % sizes.length]];
    const codes = new Uint8Array(new Uint32Array((N * K) / 8).map(() => Math.random() * 2 ** 32).buffer);
    // Uniform codes −8 … 7 have a variance of 21.25: this scale keeps the values of the chain where they are.
    const scales = new Float32Array((N * K) / 32).fill(1 / Math.sqrt(21.25 * K));
    initializer.push(
      { name: `codes${layer}`, dataType: UINT8, dims: [N, K / 32, 16], rawData: codes },
      { name: `scales${layer}`, dataType: FLOAT, dims: [(N * K) / 32], rawData: new Uint8Array(scales.buffer) },
    );
    node.push({
      opType: 'MatMulNBits',
      domain: 'com.microsoft',
      name: `layer${layer}`,
      input: [`x${layer}`, `codes${layer}`, `scales${layer}`],
      output: [`x${layer + 1}`],
      attribute: Object.entries({ K, N, bits: 4, block_size: 32, accuracy_level: 4 }).map(([name, i]) => attribute(name, i)),
    });
  }
  const model = encode({
    node,
    initializer,
    input: [valueInfo('x0', FLOAT, [tokens, sizes[0]])],
    output: [valueInfo(`x${layers}`, FLOAT, [tokens, sizes[layers % sizes.length]])],
  });
  const feeds = { x0: new Tensor('float32', randomFloats(tokens * sizes[0]), [tokens, sizes[0]]) };
  return { model, feeds, fetches: [`x${layers}`] };
}

/** Causal attention of `queries` tokens that are the last of `keys`. Presents share the buffers of pasts, so that nothing is copied. */
function attentions({ heads, kvHeads, headDim, queries, keys }) {
  const [qWidth, kvWidth, cache] = [heads * headDim, kvHeads * headDim, [1, kvHeads, keys, headDim]];
  const lengths = { lengths: [INT32, [1]], total: [INT32, []] };
  const rows = { q: [FLOAT, [1, queries, qWidth]], k: [FLOAT, [1, queries, kvWidth]], v: [FLOAT, [1, queries, kvWidth]] };
  const input = Object.entries({ ...rows, ...lengths }).map(([name, [type, dims]]) => valueInfo(name, type, dims));
  const feeds = {
    lengths: new Tensor('int32', Int32Array.of(keys - 1), [1]),
    total: new Tensor('int32', Int32Array.of(keys), []),
  };
  for (const [name, [, dims]] of Object.entries(rows)) {
    feeds[name] = new Tensor('float32', randomFloats(dims.reduce((a, b) => a * b)), dims);
  }
  const [node, output, fetches] = [[], [], {}];
  for (let layer = 0; layer < layers; layer++) {
    for (const part of ['K', 'V']) {
      input.push(valueInfo(`past${part}${layer}`, FLOAT, cache));
      output.push(valueInfo(`present${part}${layer}`, FLOAT, cache));
      const shared = new Tensor('float32', randomFloats(kvWidth * keys), cache);
      feeds[`past${part}${layer}`] = shared;
      fetches[`present${part}${layer}`] = shared;
    }
    output.push(valueInfo(`y${layer}`, FLOAT, [1, queries, qWidth]));
    fetches[`y${layer}`] = new Tensor('float32', new Float32Array(queries * qWidth), [1, queries, qWidth]);
    node.push({
      opType: 'GroupQueryAttention',
      domain: 'com.microsoft',
      name: `layer${layer}`,
      input: ['q', 'k', 'v', `pastK${layer}`, `pastV${layer}`, 'lengths', 'total'],
      output: [`y${layer}`, `presentK${layer}`, `presentV${layer}`],
      attribute: [attribute('num_heads', heads), attribute('kv_num_heads', kvHeads)],
    });
  }
  return { model: encode({ node, input, output }), feeds, fetches };
}

const { model, feeds, fetches } = work.kind === 'matmul' ? matmuls(work) : attentions(work);

/** Runs all layers once to warm up and then in passes; what a call takes, and what `after` says before the session is gone. */
async function run(extra, after) {
  const session = await InferenceSession.create(model, {
    executionProviders: ['cpu'],
    executionMode: 'sequential',
    intraOpNumThreads: threads,
    interOpNumThreads: 1,
    ...extra,
  });
  await session.run(feeds, fetches);
  const times = [];
  for (let pass = 0; pass < passes; pass++) {
    const started = performance.now();
    await session.run(feeds, fetches);
    times.push((performance.now() - started) / layers);
  }
  after?.(session);
  await session.release();
  return median(times);
}

/** Milliseconds inside of the kernels, by the runtime's own profile: without the binding to JavaScript, which copies what it returns. */
async function kernelTime() {
  const folder = mkdtempSync(join(tmpdir(), 'onnxruntime-'));
  try {
    await run({ enableProfiling: true, profileFilePrefix: join(folder, 'profile') }, (session) => session.endProfiling());
    const events = readdirSync(folder).flatMap((file) => JSON.parse(readFileSync(join(folder, file), 'utf8')));
    // In microseconds.
    const kernels = events.filter(({ name }) => /^layer\d+_kernel_time$/.test(name)).map(({ dur }) => dur / 1000);
    return median(kernels);
  } finally {
    rmSync(folder, { recursive: true });
  }
}

function median(values) {
  return [...values].sort((a, b) => a - b)[Math.floor(values.length / 2)];
}

const [call, kernel] = [await run(), await kernelTime()];
// The binding adds to the one and the profile to the other; the lower is nearer to what the kernel takes.
console.log(JSON.stringify({ milliseconds: Math.min(call, kernel), call, kernel }));
