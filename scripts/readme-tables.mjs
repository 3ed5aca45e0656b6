// Fills the tables of the documentation from what the built packages and scripts say: everything between `<!-- table: NAME -->` and
// `<!-- end -->`. `--check` writes nothing and fails when a table is out of date.
import { existsSync, readFileSync, readdirSync, writeFileSync } from 'node:fs';
import { join, relative } from 'node:path';
import { pathToFileURL } from 'node:url';
import { packages } from './lib/packages.mjs';
import { root } from './lib/run.mjs';

const built = (name) => import(pathToFileURL(join(root, 'packages', name, 'dist/index.js')).href);
const isOp = (value) => typeof value === 'function' && 'infer' in value && 'reference' in value;
const code = (text) => `\`${text}\``;

/** Ops that a package exports, in the order of their names. */
async function ops(name) {
  const exported = await built(name);
  return Object.values(exported)
    .filter(isOp)
    .sort((a, b) => (a.name < b.name ? -1 : 1));
}

/** Tables by name; each gets the name of the package whose README asks. Rows of cells, the first is the head. */
const tables = {
  async ops(name) {
    const rows = (await ops(name)).map(({ name: op, inputs, outputs, attributes }) => {
      const options = Object.keys(attributes);
      return [code(op), inputs.map(code).join(' '), outputs.map(code).join(' '), options.map(code).join(' ')];
    });
    return [['op', 'arguments', 'results', 'attributes'], ...rows];
  },

  async 'gguf-types'() {
    const { ggufLayouts, kernelTypes } = await built('quantization');
    const rows = [...ggufLayouts.values()].map(({ name, elements, bytes }) => {
      const bits = Number(((8 * bytes) / elements).toFixed(3));
      return [code(name), elements, bytes, bits, kernelTypes.includes(name) ? '●' : ''];
    });
    return [['type', 'weights per block', 'bytes per block', 'bits per weight', 'fused kernels'], ...rows];
  },

  async recipes() {
    const { recipes } = await built('quantization');
    const layers = 32;
    const rows = recipes.map(({ id, type, rules }) => {
      const mix = Object.entries(rules).map(([role, rule]) => {
        if (typeof rule === 'string') return `${role} ${code(rule)}`;
        const types = new Map();
        for (const queryGroup of [1, 4])
          for (let layer = 0; layer < layers; layer++) {
            const chosen = rule({ layers, layer, queryGroup, experts: 0 }) ?? type;
            types.set(chosen, (types.get(chosen) ?? 0) + 1);
          }
        return `${role} ${[...types.keys()].map(code).join(' or ')}`;
      });
      return [code(id), code(type), mix.join(', ')];
    });
    return [['recipe', 'weights', 'but'], ...rows];
  },

  async 'attention-methods'() {
    const { attentionMethods } = await built('sparse-attention');
    const rows = attentionMethods.map(({ id, title, paper, phase, training, options }) => {
      const link = paper.replace(/^arXiv:(.*)$/, '[$&](https://arxiv.org/abs/$1)');
      const defaults = Object.entries(options).map(([key, value]) => code(`${key}: ${value}`));
      return [code(id), title, link, phase, training, defaults.join(' ')];
    });
    return [['id', 'method', 'paper', 'phase', 'training', 'options'], ...rows];
  },

  'native-targets'() {
    const targets = JSON.parse(readFileSync(join(root, 'scripts/release/native-targets.json'), 'utf8'));
    const rows = targets.map(({ name, rust }) => [code(`@filigree/backend-native-${name}`), code(rust)]);
    return [['package', 'target'], ...rows];
  },

  packages() {
    const rows = packages()
      .filter(({ manifest, hasSource }) => manifest.private !== true && hasSource)
      .map(({ folder, manifest }) => [`[\`${manifest.name}\`](${relative(root, folder)})`, manifest.description]);
    return [['package', 'what it is'], ...rows];
  },
};

function markdown([head, ...rows]) {
  const line = (cells) => `| ${cells.join(' | ')} |`.replaceAll(/ +\|/g, ' |');
  return [line(head), line(head.map(() => '---')), ...rows.map(line)].join('\n');
}

/** The text with its tables as they should be. */
async function filled(text, name) {
  const parts = text.split(/(<!-- table: [a-z-]+ -->\n)[^]*?(?=<!-- end -->)/);
  for (const [index, part] of parts.entries()) {
    const table = /^<!-- table: ([a-z-]+) -->\n$/.exec(part)?.[1];
    if (table === undefined) continue;
    if (!(table in tables)) throw new Error(`${name}: there is no table ${table}; there are ${Object.keys(tables).join(', ')}`);
    parts[index] = `${part}\n${markdown(await tables[table](name))}\n\n`;
  }
  return parts.join('');
}

const check = process.argv.includes('--check');
const files = [
  ['', join(root, 'README.md')],
  ...packages().map(({ folder }) => [folder.split('/').at(-1), join(folder, 'README.md')]),
  ...readdirSync(join(root, 'docs'), { recursive: true })
    .filter((path) => path.endsWith('.md') && !path.startsWith('api'))
    .map((path) => ['', join(root, 'docs', path)]),
];
const stale = [];
for (const [name, path] of files.filter(([, path]) => existsSync(path))) {
  const before = readFileSync(path, 'utf8');
  const after = await filled(before, name);
  if (after === before) continue;
  stale.push(relative(root, path));
  if (!check) writeFileSync(path, after);
}
if (stale.length > 0)
  console.log(check ? `out of date: ${stale.join(', ')}; run node scripts/readme-tables.mjs` : `wrote ${stale.join(', ')}`);
process.exitCode = check && stale.length > 0 ? 1 : 0;
