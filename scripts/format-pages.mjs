// Fills the pages of docs/formats from what the built packages say: everything between `<!-- format: NAME -->` and `<!-- end -->`, NAME being a
// type or a table, and draws the pictures. `--check` writes nothing and fails when something is out of date.
import { readFileSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { blockSvg } from './formats/block-svg.mjs';
import { described, describedGroups } from './formats/describe.mjs';
import { section } from './formats/section.mjs';
import { tables } from './formats/tables.mjs';
import { filled, writeOrCheck } from './lib/generated-parts.mjs';
import { root } from './lib/run.mjs';

const folder = join(root, 'docs/formats');
const texts = new Map(
  readdirSync(folder)
    .filter((name) => name.endsWith('.md'))
    .map((name) => [name, readFileSync(join(folder, name), 'utf8')]),
);

const types = new Map([...described, ...describedGroups]);

/** Types by the page that has their section. */
const pages = new Map();
for (const [page, text] of texts)
  for (const [, name] of text.matchAll(/^<!-- format: ([A-Za-z0-9_-]+) -->$/gm)) if (types.has(name)) pages.set(name, page);
const missing = [...types.keys()].filter((type) => !pages.has(type));
if (missing.length > 0) throw new Error(`docs/formats: no page has a section of ${missing.join(', ')}`);

function part(name) {
  if (types.has(name)) return section(name);
  if (name in tables) return tables[name](pages);
  throw new Error(`docs/formats: there is no type and no table ${name}; tables are ${Object.keys(tables).join(', ')}`);
}

const files = [];
for (const [page, text] of texts) files.push([join(folder, page), await filled(text, 'format', part)]);
for (const about of types.values()) files.push([join(folder, 'blocks', `${about.type}.svg`), blockSvg(about, about.map)]);
writeOrCheck(files, 'node scripts/format-pages.mjs');
