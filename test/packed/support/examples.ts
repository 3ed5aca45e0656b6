import { existsSync, readFileSync } from 'node:fs';

/** A TypeScript or JavaScript example of a README. */
export interface Example {
  /** The program. */
  readonly source: string;
  /** Lines it says it prints: `console.log(x); // 3` prints `3`. */
  readonly output: readonly string[];
}

/**
 * What an example has and a test has not: a model file. It is the literal 'model.gguf', and the test puts the path of a tiny generated model
 * there.
 */
export const modelPlaceholder = 'model.gguf';

/** The ```ts and ```js blocks of a README; none where there is no README. */
export function examples(readme: string): Example[] {
  if (!existsSync(readme)) return [];
  const blocks = readFileSync(readme, 'utf8').matchAll(/^```(?:ts|js)\n([^]*?)^```$/gm);
  return [...blocks].map(([, source]) => ({
    source,
    output: [...source.matchAll(/^console\.log\(.*\); \/\/ (.*)$/gm)].map(([, said]) => said),
  }));
}

/** The example with the path of a model where it names one. */
export function withModel(source: string, model: string): string {
  return source.replaceAll(`'${modelPlaceholder}'`, JSON.stringify(model));
}
