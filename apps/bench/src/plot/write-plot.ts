import { mkdirSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';

/** Where the plot of a suite goes: `target` itself when it names an .svg file, else `<suite>.svg` in that folder. */
export function plotPath(target: string, suite: string): string {
  return target.endsWith('.svg') ? target : join(target, `${suite}.svg`);
}

/** Writes it, with the folders that are missing. */
export function writePlot(path: string, svg: string): void {
  mkdirSync(dirname(path), { recursive: true });
  writeFileSync(path, svg);
}
