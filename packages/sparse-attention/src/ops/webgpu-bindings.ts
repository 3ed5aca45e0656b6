import type { TensorMeta } from '@filigree/core-tensor';

/** Shapes of a call's arguments and results. */
export type Io = Readonly<Record<string, TensorMeta | undefined>>;

/** WGSL of the bindings of a call, the block `p: Parameters` behind them, and a function `name_offset()` per argument; absent ones have none. */
export function bindings(
  io: Io,
  inputs: readonly string[],
  outputs: readonly string[],
  types: Readonly<Record<string, string>>,
): { readonly text: string; readonly offsetWords: number } {
  const given = inputs.filter((name) => io[name] !== undefined);
  const bound = [...given, ...outputs];
  const declared = bound.map((name, index) => {
    const access = index < given.length ? 'read' : 'read_write';
    return `@group(0) @binding(${index}) var<storage, ${access}> ${name}: array<${types[name] ?? 'f32'}>;`;
  });
  const offsets = [...inputs, ...outputs].map((name) => {
    const index = bound.indexOf(name);
    return `fn ${name}_offset() -> u32 { return ${index < 0 ? '0u' : `p.offsets[${index >> 2}][${index & 3}]`}; }`;
  });
  const block = `@group(0) @binding(${bound.length}) var<uniform> p: Parameters;`;
  return { text: [...declared, block, ...offsets].join('\n'), offsetWords: Math.ceil(bound.length / 4) };
}
