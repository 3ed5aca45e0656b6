// Fills the tables of the documentation from what the built packages and scripts say: everything between `<!-- table: NAME -->` and
// `<!-- end -->`. `--check` writes nothing and fails when a table is out of date.
import { existsSync, readFileSync, readdirSync } from 'node:fs';
import { join, relative } from 'node:path';
import { built, filled, markdownTable, writeOrCheck } from './lib/generated-parts.mjs';
import { kvChoiceTable, kvTypesTable } from './lib/kv-choice.mjs';
import { kvReportTable, measuredByKvMethod, measuredByMethod, reportTable } from './lib/measured-methods.mjs';
import { packages } from './lib/packages.mjs';
import { root } from './lib/run.mjs';

const isOp = (value) => typeof value === 'function' && 'infer' in value && 'reference' in value;
const code = (text) => `\`${text}\``;

/** Ops that a package exports, in the order of their names. */
async function ops(name) {
  const exported = await built(name);
  return Object.values(exported)
    .filter(isOp)
    .sort((a, b) => (a.name < b.name ? -1 : 1));
}

/** Cells of a method: its paper, and its options as they are without being given. */
function linkAndDefaults(paper, options) {
  const link = paper.replace(/^arXiv:(.*)$/, '[$&](https://arxiv.org/abs/$1)');
  const defaults = Object.entries(options).map(([key, value]) => code(`${key}: ${value}`));
  return { link, defaults: defaults.join(' ') };
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

  async 'grouped-types'() {
    const { groupedTypes } = await built('quantization');
    const kinds = [...new Set(groupedTypes.map(({ kind }) => kind))];
    const rows = kinds.map((kind) => {
      const types = groupedTypes.filter((type) => type.kind === kind);
      const bits = types.map(({ elements, bytes }) => `${(8 * bytes) / elements}`);
      return [code(kind), types.map(({ elements }) => elements).join(', '), bits.join(', ')];
    });
    return [['kind', 'groups of', 'bits per weight'], ...rows];
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
    const measured = await measuredByMethod();
    const rows = attentionMethods.map(({ id, title, paper, phase, training, options }) => {
      const { link, defaults } = linkAndDefaults(paper, options);
      return [code(id), title, link, phase, training, defaults, ...measured.of(id)];
    });
    return [['id', 'method', 'paper', 'phase', 'training', 'options', ...measured.columns], ...rows];
  },

  async 'kv-methods'() {
    const { kvMethods } = await built('kv-cache');
    const measured = await measuredByKvMethod();
    const rows = kvMethods.map(({ id, title, paper, queryAgnostic, ragged, options }) => {
      const { link, defaults } = linkAndDefaults(paper, options);
      return [code(id), title, link, queryAgnostic ? '●' : '', ragged ? '●' : '', defaults, ...measured.of(id)];
    });
    return [['id', 'method', 'paper', 'serves any question', 'heads differ', 'options', ...measured.columns], ...rows];
  },

  /** All that the records of the report on the cache say. */
  'kv-report': kvReportTable,

  'kv-choice': kvChoiceTable,

  'kv-types': kvTypesTable,

  /** All that the records of the sparse attention report say. */
  'attention-report': reportTable,

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

function table(file, owner) {
  return async (name) => {
    if (!(name in tables)) throw new Error(`${file}: there is no table ${name}; there are ${Object.keys(tables).join(', ')}`);
    return markdownTable(await tables[name](owner));
  };
}

const files = [
  ['', join(root, 'README.md')],
  ...packages().map(({ folder }) => [folder.split('/').at(-1), join(folder, 'README.md')]),
  ...readdirSync(join(root, 'docs'), { recursive: true })
    .filter((path) => path.endsWith('.md') && !path.startsWith('api'))
    .map((path) => ['', join(root, 'docs', path)]),
];
const current = [];
for (const [owner, path] of files.filter(([, path]) => existsSync(path)))
  current.push([path, await filled(readFileSync(path, 'utf8'), 'table', table(relative(root, path), owner))]);
writeOrCheck(current, 'node scripts/readme-tables.mjs');
