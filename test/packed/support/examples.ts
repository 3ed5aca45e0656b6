import { readFileSync } from 'node:fs';

/** The first TypeScript or JavaScript example of a README. */
export interface Example {
  /** The program. */
  readonly source: string;
  /** Lines it says it prints: `console.log(x); // 3` prints `3`. */
  readonly output: readonly string[];
}

/**
 * What an example stands for that a reader has and a test has not: a model file. It is the literal 'model.gguf', and the test puts the
 * path of a tiny generated model there.
 */
export const modelPlaceholder = 'model.gguf';

/** Extracts the first ```ts or ```js block of a README; throws where there is none. */
export function firstExample(readme: string): Example {
  const text = readFileSync(readme, 'utf8');
  const source = /^```(?:ts|js)\n([^]*?)^```$/m.exec(text)?.[1];
  if (source === undefined) throw new Error(`${readme} has no example: a block that starts with \`\`\`ts or \`\`\`js`);
  const output = [...source.matchAll(/^console\.log\(.*\); \/\/ (.*)$/gm)].map(([, said]) => said);
  return { source, output };
}
