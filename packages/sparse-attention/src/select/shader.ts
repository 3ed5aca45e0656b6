import { composedShader, type TensorMeta } from '@filigree/core-tensor';

type Io = Readonly<Record<string, TensorMeta | undefined>>;

export interface SelectionShader {
  readonly op: string;
  /** Module without bindings; `/* bindings *\/` stands where they go, behind the struct of its parameters. */
  readonly source: string;
  /** Names and element types in the order of the op; `half` reads words as two halves where the argument is f16. */
  readonly inputs: readonly (readonly [string, 'f32' | 'i32' | 'u32' | 'half'])[];
  readonly outputs: readonly (readonly [string, 'f32' | 'i32' | 'u32'])[];
}

/**
 * The module of a selection kernel for the arguments that are there. Input x is read by `x_at(index)`, 0 where it is not given, which `has_x` tells;
 * element i of output y is `y[y_offset() + i]`. The struct of parameters starts with `offsets: array<vec4u, OFFSET_WORDS>`.
 */
export function selectionShader({ op, source, inputs, outputs }: SelectionShader, io: Io): string {
  const given = inputs.filter(([name]) => io[name] !== undefined);
  const halves = given.filter(([name, type]) => type === 'half' && io[name]?.dtype === 'f16').map(([name]) => name);
  return composedShader(`${op} ${given.map(([name]) => name).join()} ${halves.join()}`, () => {
    const bound = [...given.map(([name]) => name), ...outputs.map(([name]) => name)];
    const offset = (name: string): string => {
      const index = bound.indexOf(name);
      return `fn ${name}_offset() -> u32 { return p.offsets[${index >> 2}][${index & 3}]; }`;
    };
    const lines = inputs.flatMap(([name, type]) => {
      const value = type === 'half' ? 'f32' : type;
      const is = `const has_${name} = ${io[name] !== undefined};`;
      if (!io[name]) return [is, `fn ${name}_at(index: u32) -> ${value} { return ${value}(0); }`];
      const words = halves.includes(name);
      const element = words ? 'u32' : value;
      const read = words
        ? `let at = ${name}_offset() + index; return unpack2x16float(${name}[at / 2u])[at % 2u];`
        : `return ${name}[${name}_offset() + index];`;
      return [
        is,
        `@group(0) @binding(${bound.indexOf(name)}) var<storage, read> ${name}: array<${element}>;`,
        offset(name),
        `fn ${name}_at(index: u32) -> ${value} { ${read} }`,
      ];
    });
    const written = outputs.flatMap(([name, type]) => [
      `@group(0) @binding(${bound.indexOf(name)}) var<storage, read_write> ${name}: array<${type}>;`,
      offset(name),
    ]);
    const block = `@group(0) @binding(${bound.length}) var<uniform> p: Parameters;`;
    return source
      .replace('/* bindings */', [...lines, ...written, block].join('\n'))
      .replaceAll('OFFSET_WORDS', String(Math.ceil(bound.length / 4)));
  });
}
