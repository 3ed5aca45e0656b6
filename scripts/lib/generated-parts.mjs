import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, join, relative } from 'node:path';
import { root } from './run.mjs';

/** A Markdown table; the first row is the head. */
export function markdownTable([head, ...rows]) {
  const line = (cells) => `| ${cells.join(' | ')} |`.replaceAll(/ +\|/g, ' |');
  return [line(head), line(head.map(() => '---')), ...rows.map(line)].join('\n');
}

/**
 * The text with its generated parts as they should be: what stands between `<!-- kind: NAME -->` and `<!-- end -->` becomes what
 * `content(NAME)` gives.
 */
export async function filled(text, kind, content) {
  const parts = text.split(new RegExp(`(<!-- ${kind}: [A-Za-z0-9_-]+ -->\\n)[^]*?(?=<!-- end -->)`));
  for (const [index, part] of parts.entries()) {
    const name = new RegExp(`^<!-- ${kind}: ([A-Za-z0-9_-]+) -->\\n$`).exec(part)?.[1];
    if (name !== undefined) parts[index] = `${part}\n${await content(name)}\n\n`;
  }
  return parts.join('');
}

/**
 * Writes files that differ from what they should be, given as [path, text]; with `--check` on the command line it writes nothing, and the
 * process fails and names the command that would write them.
 */
export function writeOrCheck(files, command) {
  const check = process.argv.includes('--check');
  const stale = files.filter(([path, text]) => !existsSync(path) || readFileSync(path, 'utf8') !== text);
  for (const [path, text] of check ? [] : stale) {
    mkdirSync(dirname(path), { recursive: true });
    writeFileSync(path, text);
  }
  const names = stale.map(([path]) => relative(root, path)).join(', ');
  if (stale.length > 0) console.log(check ? `out of date: ${names}; run ${command}` : `wrote ${names}`);
  process.exitCode = check && stale.length > 0 ? 1 : 0;
}

/** What a built package exports. */
export function built(name) {
  return import(new URL(`file://${join(root, 'packages', name, 'dist/index.js')}`).href);
}
