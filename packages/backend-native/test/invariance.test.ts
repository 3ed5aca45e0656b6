import { cpuPaths, createNativeBackend } from '@filigree/backend-native';
import {
  fromArray,
  gatedActivation,
  gateKinds,
  matmul,
  rmsNorm,
  rope,
  seededTensor,
  softmax,
  type Backend,
  type HostTensor,
  type Tensor,
} from '@filigree/core-tensor';
import {
  activationModes,
  gatedLinear,
  ggufLayout,
  kernelTypes,
  matmulOp,
  packedBlocks,
  projectQkv,
  QuantizedLinear,
  seededBlocks,
} from '@filigree/quantization';
import {
  attention,
  lowerMask,
  plannedAttention,
  planTensor,
  precisions,
  queryLayouts,
  streaming,
  type Precision,
  type QueryLayout,
} from '@filigree/sparse-attention';
import { fullTier } from '@filigree/testing';
import * as fc from 'fast-check';
import { afterAll, describe, expect, it } from 'vitest';

const numRuns = fullTier ? 100 : 12;
let checked = 0;
afterAll(() => {
  console.log(`invariance: ${checked} comparisons on ${cpuPaths().join(', ')}`);
});

const upload = (backend: Backend, host: HostTensor): Tensor => fromArray(backend, host.data, host.shape, host.dtype);

/** The bits of a result, so that −0 is not 0 and one NaN is not another. */
async function bits(tensor: Tensor): Promise<Uint8Array> {
  const read = await tensor.readBytes();
  tensor.dispose();
  checked++;
  return read;
}

/** Elements that make sums depend on their order: many magnitudes. */
const rough = (seed: number, shape: readonly number[], dtype: 'f32' | 'f16' = 'f32'): HostTensor => {
  const host = seededTensor(seed, shape, { dtype });
  for (let index = 0; index < host.data.length; index += 7) host.data[index] *= 16;
  return host;
};

/** Rows `from … to` of a host tensor whose rows are the leading axis. */
function rowsOf(host: HostTensor, from: number, to: number): HostTensor {
  const width = host.data.length / Math.max(1, host.shape[0]);
  return { ...host, shape: [to - from, ...host.shape.slice(1)], data: host.data.slice(from * width, to * width) };
}

interface AttentionCase {
  readonly seed: number;
  readonly kvHeads: number;
  readonly group: number;
  readonly length: number;
  readonly past: number;
  readonly dim: number;
  readonly dtype: 'f32' | 'f16';
  readonly layout: QueryLayout;
  readonly precision: Precision;
  /** Queries per call of the run in pieces. */
  readonly piece: number;
}

const attentionCase: fc.Arbitrary<AttentionCase> = fc.record({
  seed: fc.nat(1e6),
  kvHeads: fc.constantFrom(1, 2, 3),
  group: fc.constantFrom(1, 3, 4, 8),
  length: fc.oneof(fc.integer({ min: 1, max: 70 }), fc.integer({ min: 200, max: 420 })),
  past: fc.oneof(fc.nat(200), fc.nat(700)),
  dim: fc.constantFrom(4, 16, 34, 64),
  dtype: fc.constantFrom('f32' as const, 'f16' as const),
  layout: fc.constantFrom(...queryLayouts),
  precision: fc.constantFrom(...precisions),
  piece: fc.oneof(fc.constant(1), fc.integer({ min: 1, max: 40 })),
});

/** Queries of some positions in the layout of the call. */
function queriesOf(all: HostTensor, c: AttentionCase, from: number, to: number): HostTensor {
  const heads = c.kvHeads * c.group;
  const count = to - from;
  const data = new Float32Array(heads * count * c.dim);
  for (let position = 0; position < count; position++) {
    for (let head = 0; head < heads; head++) {
      const source = ((from + position) * heads + head) * c.dim;
      const target = (c.layout === 'blhd' ? position * heads + head : head * count + position) * c.dim;
      data.set(all.data.subarray(source, source + c.dim), target);
    }
  }
  return { dtype: 'f32', shape: c.layout === 'blhd' ? [1, count, heads, c.dim] : [1, heads, count, c.dim], data };
}

/** o as [position][head][dim] and lse as [position][head], whatever the layout, from the results of consecutive calls. */
function collect(c: AttentionCase, parts: { count: number; o: Uint8Array; lse: Uint8Array }[]): [string, string][] {
  const heads = c.kvHeads * c.group;
  return parts.flatMap(({ count, o, lse }) =>
    Array.from({ length: count }, (_, position): [string, string] => {
      const width = 4 * c.dim;
      const row = (head: number): number => (c.layout === 'blhd' ? position * heads + head : head * count + position);
      const outputs = Array.from({ length: heads }, (_, head) => o.subarray(row(head) * width, (row(head) + 1) * width));
      const sums = Array.from({ length: heads }, (_, head) =>
        lse.subarray(4 * (head * count + position), 4 * (head * count + position) + 4),
      );
      return [Buffer.concat(outputs).toString('hex'), Buffer.concat(sums).toString('hex')];
    }),
  );
}

/** Runs `call` on pieces of the queries, as a prompt in chunks or token by token would. */
async function inPieces(
  c: AttentionCase,
  piece: number,
  call: (from: number, to: number) => { o: Tensor; lse: Tensor },
): Promise<[string, string][]> {
  const parts: { count: number; o: Uint8Array; lse: Uint8Array }[] = [];
  for (let from = 0; from < c.length; from += piece) {
    const to = Math.min(c.length, from + piece);
    const { o, lse } = call(from, to);
    parts.push({ count: to - from, o: await bits(o), lse: await bits(lse) });
  }
  return collect(c, parts);
}

describe.each(cpuPaths())('on the %s path', (cpu) => {
  const backends = [1, 2, 3, 8].map((threads) => createNativeBackend({ cpu, threads, fallback: 'error' }));
  const [backend] = backends;
  afterAll(() => {
    for (const each of backends) each.dispose();
  });

  const check = async <T>(arbitrary: fc.Arbitrary<T>, property: (value: T) => Promise<void>): Promise<void> => {
    await fc.assert(fc.asyncProperty(arbitrary, property), { numRuns, seed: 20270101 });
  };

  const size = fc.integer({ min: 1, max: 90 });
  const part = fc.record({ from: fc.nat(89), count: fc.integer({ min: 1, max: 20 }) });

  it('a row of matmul has the same bits whatever other rows are there', async () => {
    const sizes = fc.record({
      seed: fc.nat(1e6),
      m: size,
      k: fc.integer({ min: 1, max: 600 }),
      n: fc.integer({ min: 1, max: 150 }),
      part,
      transposeB: fc.boolean(),
    });
    await check(sizes, async ({ seed, m, k, n, part: { from, count }, transposeB }) => {
      const [a, b] = [rough(seed, [m, k]), rough(seed + 1, transposeB ? [n, k] : [k, n])];
      const [start, end] = [from % m, Math.min(m, (from % m) + count)];
      const run = (rows: HostTensor): Promise<Uint8Array> =>
        bits(matmul(upload(backend, rows), upload(backend, b), { transposeB }));
      const whole = await run(a);
      expect(await run(rowsOf(a, start, end))).toEqual(whole.slice(4 * start * n, 4 * end * n));
    });
  });

  it.each(kernelTypes)('a row of the %s matmul has the same bits whatever other rows are there', async (type) => {
    const { id, elements } = ggufLayout(type);
    const sizes = fc.record({
      seed: fc.nat(1e6),
      m: size,
      n: fc.integer({ min: 1, max: 70 }),
      blocks: fc.integer({ min: 1, max: 4 }),
      part,
      activations: fc.constantFrom(...activationModes),
    });
    await check(sizes, async ({ seed, m, n, blocks, part: { from, count }, activations }) => {
      const inFeatures = blocks * Math.max(elements, 31);
      const x = rough(seed, [m, inFeatures]);
      const file = seededBlocks(seed, id, n, inFeatures);
      const tiles = packedBlocks(file, id, inFeatures);
      const [start, end] = [from % m, Math.min(m, (from % m) + count)];
      const run = (rows: HostTensor, layout: 'file' | 'tiles'): Promise<Uint8Array> =>
        bits(
          matmulOp(
            { x: upload(backend, rows), weights: upload(backend, layout === 'file' ? file : tiles) },
            { type: id, outFeatures: n, inFeatures, layout, activations },
          ).y,
        );
      const whole = await run(x, 'tiles');
      expect(await run(rowsOf(x, start, end), 'tiles')).toEqual(whole.slice(4 * start * n, 4 * end * n));
      expect(await run(x, 'file')).toEqual(whole);
    });
  });

  it('projections in one pass have the bits of a pass each, whatever their types', async () => {
    const types = kernelTypes.filter((type) => 256 % ggufLayout(type).elements === 0);
    const cases = fc.record({
      seed: fc.nat(1e6),
      tokens: fc.integer({ min: 1, max: 20 }),
      rows: fc.tuple(size, size, size),
      types: fc.tuple(fc.constantFrom(...types), fc.constantFrom(...types), fc.constantFrom(...types)),
      activations: fc.constantFrom(...activationModes),
      biased: fc.boolean(),
      kind: fc.constantFrom(...gateKinds),
    });
    await check(cases, async ({ seed, tokens, rows, types, activations, biased, kind }) => {
      const inFeatures = 256;
      const x = upload(backend, rough(seed, [tokens, inFeatures]));
      const linear = (index: number, outFeatures = rows[index]): QuantizedLinear =>
        new QuantizedLinear(upload(backend, seededBlocks(seed + index, ggufLayout(types[index]).id, outFeatures, inFeatures)), {
          type: types[index],
          inFeatures,
          outFeatures,
          activations,
          bias: biased ? upload(backend, rough(seed + index, [outFeatures])) : undefined,
        });
      const [query, key, value, up] = [linear(0), linear(1), linear(2), linear(1, rows[0])];
      const { q, k, v } = projectQkv(x, { query, key, value });
      for (const [fused, one] of [
        [q, query],
        [k, key],
        [v, value],
      ] as const)
        expect(await bits(fused)).toEqual(await bits(one.forward(x)));
      const gated = gatedActivation(query.forward(x), up.forward(x), kind);
      expect(await bits(gatedLinear(x, { gate: query, up }, kind))).toEqual(await bits(gated));
    });
  });

  it('attention of a prompt in chunks, or token by token, has the bits of the whole', async () => {
    const options = fc.record({ softcap: fc.constantFrom(0, 5), window: fc.constantFrom(0, 0, 3, 64, 300) });
    await check(fc.tuple(attentionCase, options), async ([c, { softcap, window }]) => {
      const total = c.past + c.length;
      const k = upload(backend, rough(c.seed + 1, [1, c.kvHeads, total, c.dim], c.dtype));
      const v = upload(backend, rough(c.seed + 2, [1, c.kvHeads, total, c.dim], c.dtype));
      const all = seededTensor(c.seed, [c.length, c.kvHeads * c.group, c.dim]);
      const run = (piece: number): Promise<[string, string][]> =>
        inPieces(c, piece, (from, to) =>
          attention(upload(backend, queriesOf(all, c, from, to)), k, v, {
            softcap,
            window,
            lengthK: c.past + to,
            queryLayout: c.layout,
            precision: c.precision,
          }),
        );
      expect(await run(c.piece)).toEqual(await run(c.length));
    });
  });

  it('planned attention of a prompt in chunks has the bits of the whole', async () => {
    const options = fc.record({ sinks: fc.nat(6), window: fc.integer({ min: 1, max: 130 }) });
    await check(fc.tuple(attentionCase, options), async ([c, pattern]) => {
      const heads = c.kvHeads * c.group;
      const total = c.past + c.length;
      const k = upload(backend, rough(c.seed + 1, [1, c.kvHeads, total, c.dim], c.dtype));
      const v = upload(backend, rough(c.seed + 2, [1, c.kvHeads, total, c.dim], c.dtype));
      const all = seededTensor(c.seed, [c.length, heads, c.dim]);
      // A pattern's rows come in blocks of 16 queries, counted from the first of the call.
      const run = (piece: number): Promise<[string, string][]> =>
        inPieces(c, piece, (from, to) => {
          const mask = streaming(pattern)({ batch: 1, heads, lenQ: [to - from], lenK: [c.past + to] });
          const plan = planTensor(backend, lowerMask(mask));
          return plannedAttention(upload(backend, queriesOf(all, c, from, to)), k, v, plan, {
            queryLayout: c.layout,
            precision: c.precision,
          });
        });
      expect(await run(16 * Math.ceil(c.piece / 16))).toEqual(await run(c.length));
    });
  });

  it('a query in a row block of its own has the bits it has in a wide one with the same list', async () => {
    await check(attentionCase, async (c) => {
      const heads = c.kvHeads * c.group;
      const total = c.past + c.length;
      const k = upload(backend, rough(c.seed + 1, [1, c.kvHeads, total, c.dim], c.dtype));
      const v = upload(backend, rough(c.seed + 2, [1, c.kvHeads, total, c.dim], c.dtype));
      const all = seededTensor(c.seed, [c.length, heads, c.dim]);
      const run = (blockQ: number): Promise<[string, string][]> =>
        inPieces(c, c.length, () => {
          const rows = Math.ceil(c.length / blockQ);
          // Sinks and the last keys for every query, as ranges that causality cuts: the list of a row block is the beginning of the longest one, so
          // that tiles hold the same keys. Lists that begin otherwise would be cut into other tiles.
          const ranges = [0, Math.min(3, total), Math.max(Math.min(3, total), total - 90), total];
          const mask = {
            ...{ batch: 1, maskHeads: 1, headMap: new Int32Array(heads), causal: true, window: 0, blockQ, blockK: 64 },
            ...{ lenQ: Int32Array.of(c.length), lenK: Int32Array.of(total), qOffset: Int32Array.of(c.past) },
            rowPtr: new Int32Array(rows + 1),
            colIdx: new Int32Array(0),
            rangePtr: Int32Array.from({ length: rows + 1 }, (_, row) => 2 * row),
            ranges: Int32Array.from(Array.from({ length: rows }, () => ranges).flat()),
          };
          const plan = planTensor(backend, lowerMask(mask));
          return plannedAttention(upload(backend, queriesOf(all, c, 0, c.length)), k, v, plan, {
            queryLayout: c.layout,
            precision: c.precision,
          });
        });
      const whole = await run(64);
      expect(await run(16)).toEqual(whole);
      expect(await run(1)).toEqual(whole);
    });
  });

  it('has the same bits on 1, 2, 3 and 8 threads', async () => {
    type Step = [string, (backend: Backend, seed: number, rows: number) => Tensor];
    const steps: Step[] = [
      ['matmul', (on, seed, rows) => matmul(upload(on, rough(seed, [rows, 130])), upload(on, rough(seed + 1, [130, 140])))],
      ['rms-norm', (on, seed, rows) => rmsNorm(upload(on, rough(seed, [rows * 9, 96])), upload(on, rough(seed + 1, [96])))],
      ['softmax', (on, seed, rows) => softmax(upload(on, rough(seed, [rows, 999])))],
      [
        'gate',
        (on, seed, rows) => gatedActivation(upload(on, rough(seed, [rows, 1536])), upload(on, rough(seed + 1, [rows, 1536]))),
      ],
      [
        'rope',
        (on, seed, rows) =>
          rope(
            upload(on, rough(seed, [rows, 3, 64])),
            upload(on, seededTensor(seed, [rows], { dtype: 'i32', low: 0, high: 4000 })),
            upload(on, seededTensor(seed, [32], { low: 0, high: 1 })),
          ),
      ],
      ...precisions.map((precision): Step => [
        `attention in ${precision}`,
        (on, seed, rows) =>
          attention(
            upload(on, rough(seed, [1, 6, rows, 32])),
            upload(on, rough(seed + 1, [1, 2, rows + 600, 32])),
            upload(on, rough(seed + 2, [1, 2, rows + 600, 32])),
            { precision },
          ).o,
      ]),
      [
        'quantised matmul',
        (on, seed, rows) =>
          matmulOp(
            { x: upload(on, rough(seed, [rows, 256])), weights: upload(on, seededBlocks(seed, 12, 300, 256)) },
            { type: 12, outFeatures: 300, inFeatures: 256 },
          ).y,
      ],
    ];
    await check(fc.record({ seed: fc.nat(1e6), rows: fc.integer({ min: 1, max: 60 }) }), async ({ seed, rows }) => {
      for (const [name, run] of steps) {
        const results = await Promise.all(backends.map((on) => bits(run(on, seed, rows))));
        for (const other of results.slice(1)) expect(Buffer.compare(other, results[0]), name).toBe(0);
      }
    });
  });
});
