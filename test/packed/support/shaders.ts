import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const folder = fileURLToPath(new URL('../../../kernels/wgsl', import.meta.url));

/** Every line of every shader that is long enough to be its own: by file, `core/rms-norm.wgsl`. */
function shaderLines(): Map<string, string[]> {
  const files = readdirSync(folder, { recursive: true, encoding: 'utf8' }).filter((name) => name.endsWith('.wgsl'));
  const lines = (name: string): string[] => readFileSync(join(folder, name), 'utf8').split('\n');
  return new Map(files.map((name) => [name, lines(name).filter((line) => line.trim().length >= 24)]));
}

/** The shaders of which a line that no other shader has is in the text. */
export function shadersIn(text: string): string[] {
  const all = shaderLines();
  const owners = new Map<string, number>();
  for (const lines of all.values()) for (const line of new Set(lines)) owners.set(line, (owners.get(line) ?? 0) + 1);
  return [...all]
    .filter(([, lines]) => lines.some((line) => owners.get(line) === 1 && text.includes(line)))
    .map(([name]) => name);
}
